# SPDX-License-Identifier: Apache-2.0
"""What does the gateway offer a plugin?

One `Host` per worker: entities, counters shared by all workers of the node, a stream to the control process, a
log and a clock. Plugins get it in `__init__`, before the data plane exists; `connect` fills it in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from pylae.sdk.entities import CallFailed, Entities
from pylae.sdk.plugin import Plugin
from pylae.sdk.references import References, body_limit_of, following, may_refer
from pylae.vaults import Vaults

CHECK_INTERVAL_S: Final = 60.0
"""How often secrets are looked at again."""

Limit = tuple[int, int, int]
"""How many, from when, until when: (limit, window_start_ms, window_end_ms)."""


class CountersUnavailable(Exception):
    """Counters could not be reached: the count of this request is unknown."""


class Gateway(Protocol):
    """The part of `pylae._core.Gateway` that plugins reach through their host."""

    on_invalidate: Callable[[list[tuple[str, str, Any]] | None], None] | None

    def call(self, operation: str, args: bytes, timeout_ms: int) -> Awaitable[bytes]:
        """Asks the control process; MessagePack both ways."""
        ...

    def stream(self, channel: str, item: bytes) -> bool:
        """Hands an item to the control process, some time; `False` when it was dropped and counted."""
        ...

    def counters_take(self, identifier: bytes, limits: list[Limit], cost: int) -> tuple[bool, list[int]]:
        """Counts over all windows, or over none."""
        ...

    def counters_read(self, identifier: bytes, limits: list[Limit]) -> list[int]:
        """Usage per window."""
        ...

    def log(self, level: str, message: str) -> None:
        """Writes one line to `error.log`."""
        ...


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Host:
    """What the gateway offers a plugin.

    Args:
        now_ms: tells the time.
        vaults: where the secrets are that configurations name.
        check_interval_s: how often those are looked at again.
        trusted_certificates: PEM files of the authorities the gateway trusts.
        node_id: by which id this node is known.
    """

    counters_take: Callable[[bytes, list[Limit], int], tuple[bool, list[int]]]
    """`counters_take(identifier, limits, cost)` adds `cost` to every window, or to none when one would exceed its
    limit; returns whether it did, and the usage per window afterwards. Raises `CountersUnavailable`."""
    counters_read: Callable[[bytes, list[Limit]], list[int]]
    """Usage per window, unchanged."""
    stream: Callable[[str, bytes], bool]
    """`stream(channel, item)` hands an item to the control process and never waits; `False`: dropped and counted."""
    log: Callable[[str, str], None]
    """`log(level, message)` writes one line to `error.log`."""
    now_ms: Callable[[], int]
    """Milliseconds since the epoch."""
    trusted_certificates: Sequence[str]
    """PEM files of the authorities that `lua_ssl_trusted_certificate` names, for TLS that a plugin speaks itself."""

    def __init__(
        self,
        now_ms: Callable[[], int] = _wall_clock_ms,
        vaults: Vaults | None = None,
        check_interval_s: float = CHECK_INTERVAL_S,
        trusted_certificates: Sequence[str] = (),
        node_id: str | None = None,
    ) -> None:
        self.now_ms = now_ms
        self.node_id = node_id
        """By which id this node is known; None where there is no gateway."""
        self.trusted_certificates = tuple(trusted_certificates)
        self.entities = Entities(self._not_connected, now_ms)
        self.references = References(vaults or Vaults(), check_interval_s, lambda level, text: self.log(level, text))
        self._checking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return "<plugin host>"

    async def _not_connected(self, operation: str, args: bytes, timeout_ms: int) -> bytes:  # noqa: ARG002 - a gateway's call
        raise CallFailed("unavailable", f"`{operation}` before the gateway runs")

    def connect(self, gateway: Gateway) -> None:
        """Lets plugins reach the data plane; called once, before the first request."""
        # Bound methods kept as attributes: a hook reaches the data plane without a Python frame in between.
        self.counters_take = gateway.counters_take
        self.counters_read = gateway.counters_read
        self.stream = gateway.stream
        self.log = gateway.log
        self.entities.connect(gateway.call)
        gateway.on_invalidate = self.entities.invalidate

    async def start(self, plugins: Sequence[Plugin]) -> None:
        """Starts plugins in order."""
        self._checking = asyncio.get_running_loop().create_task(self.references.keep_checking())
        for plugin in plugins:
            await plugin.start()

    async def stop(self, plugins: Sequence[Plugin]) -> None:
        """Stops plugins in reverse order."""
        for plugin in reversed(plugins):
            await plugin.stop()
        if self._checking is not None:
            self._checking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checking


def definition_of(plugin: Plugin) -> dict[str, Any]:
    """What the data plane must know of a plugin (`pylae._core.PluginDefinition`)."""
    phases: dict[str, Any] = plugin.phases()
    build_config: Callable[..., Any] = plugin.build_config
    body_limit: Callable[[Any], int] = plugin.body_limit
    if plugin.done and may_refer(plugin.Config):
        # The others are called without a frame in between.
        phases = {phase: following(method) for phase, method in phases.items()}
        build_config, body_limit = partial(plugin.host.references.build, plugin), body_limit_of(plugin)
    return {
        "name": plugin.name,
        "priority": plugin.priority,
        "version": plugin.version,
        "instance": plugin,
        "phases": phases,
        "reads_body": plugin.reads_body,
        "wants_client_certificate": plugin.wants_client_certificate,
        "build_config": build_config,
        "body_limit": body_limit,
    }
