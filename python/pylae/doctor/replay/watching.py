# SPDX-License-Identifier: Apache-2.0
"""What does a plugin look at and reach for while it is run again?

What no record keeps (values of header fields, queries, bodies, rows) has no value here: a plugin that asks for it is
stopped, as whatever it did next would be made up. So is one that says it is pure and reaches past the exchange.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from pylae.sdk.host import Host, Limit

SHOWN_HEADERS: Final = frozenset(
    {
        *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "content-encoding"),
        *("content-length", "content-type", "expect", "forwarded", "host", "kong-request-id", "origin", "range", "te"),
        *("traceparent", "transfer-encoding", "upgrade", "user-agent", "via", "x-kong-request-id", "x-real-ip", "x-request-id"),
    }
)
"""Fields whose values are no secret; those that begin with one of `SHOWN_PREFIXES` neither."""
SHOWN_PREFIXES: Final = ("x-forwarded-", "if-")

_FORBIDDEN: Final = frozenset(
    {"ctypes.dlopen", "os.chmod", "os.kill", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
)
_FORBIDDEN_BEGINNINGS: Final = (
    *("socket.", "subprocess.", "shutil.", "sqlite3.", "ftplib.", "http.client.", "smtplib.", "urllib.", "signal."),
    *("os.exec", "os.fork", "os.posix_spawn", "os.putenv", "os.spawn", "os.startfile", "os.symlink", "os.system", "os.truncate"),
)
_WRITING: Final = ("w", "a", "x", "+")
_WRITING_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def is_shown(name: str) -> bool:
    """Whether a header field's value may be told."""
    lower_name = name.lower()
    return lower_name in SHOWN_HEADERS or lower_name.startswith(SHOWN_PREFIXES)


class Stopped(BaseException):
    """A plugin can't go on. Not an `Exception`: no plugin shall catch it."""


class Absent(str):
    """In the place of a value that is not kept."""

    __slots__ = ()


class Watch:
    """What the plugin that runs at the moment does.

    Attributes:
        position: of the plugin whose phase runs; None between phases.
        secrets: header values that no text may repeat.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = frozenset(secrets)
        self.position: int | None = None
        self.phase = ""
        self.missed: dict[int, str] = {}
        """By position, what was asked for and is not kept."""
        self.reached: dict[int, str] = {}
        """By position, what was reached for past the exchange."""
        self.has_seen_secrets: set[int] = set()
        """Positions of plugins that read what no text may repeat."""

    def __repr__(self) -> str:
        return f"<watch position={self.position} phase={self.phase}>"

    def begin(self, position: int, phase: str) -> None:
        """A phase begins."""
        self.position, self.phase = position, phase

    def end(self) -> None:
        """A phase is over."""
        self.position = None

    def ask(self, what: str) -> None:
        """Something was asked for that is not kept.

        Raises:
            Stopped: a plugin did.
        """
        if self.position is not None:
            self.missed.setdefault(self.position, what)
            raise Stopped(what)

    def reach(self, what: str) -> NoReturn:
        """A plugin reached past the exchange.

        Raises:
            Stopped: always.
        """
        if self.position is not None:
            self.reached.setdefault(self.position, what)
        raise Stopped(what)

    def see_secret(self) -> None:
        """A secret was read."""
        if self.position is not None:
            self.has_seen_secrets.add(self.position)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judges what the interpreter is about to do (`sys.addaudithook`).

        Raises:
            Stopped: a plugin would reach past the exchange.
        """
        if self.position is None:
            return
        if event == "open":
            _, mode, flags = arguments
            is_writing = flags & _WRITING_FLAGS if mode is None else any(letter in mode for letter in _WRITING)
            if is_writing:
                self.reach("a file to write to")
        elif event in _FORBIDDEN or event.startswith(_FORBIDDEN_BEGINNINGS):
            self.reach(f"`{event}`")


class WatchedHeaders(dict[str, Any]):
    """All fields by name; a value that is not kept may be passed by, not read."""

    def __init__(self, headers: dict[str, Any], look: Callable[[str, Any], Any]) -> None:
        super().__init__(headers)
        self._look = look

    def __getitem__(self, name: str) -> Any:
        return self._look(name, super().__getitem__(name))

    def __iter__(self) -> Iterator[str]:
        # Overridden, so that `dict(headers)` comes by way of `__getitem__`.
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or the default."""
        if name not in self:
            return default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Removes a value and gives it."""
        return self._look(name, super().pop(name, *default))

    def items(self) -> Any:
        """Names and values."""
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        """Values."""
        return [self[name] for name in self]

    def copy(self) -> dict[str, Any]:
        """A plain dict of it."""
        return dict(self.items())


class KnownPart(dict[str, Any]):
    """A row of which only a part is known."""

    def __init__(self, row: dict[str, Any], label: str, watch: Watch) -> None:
        super().__init__(row)
        self._label = label
        self._watch = watch

    def __missing__(self, name: str) -> None:
        self._watch.ask(f"`{name}` of the {self._label}")

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            self._watch.ask(f"`{name}` of the {self._label}")
            return False
        return True

    def get(self, name: str, default: Any = None) -> Any:
        """A value."""
        if name not in self:
            return default
        return self[name]


class LonelyHost(Host):
    """A host behind which there is nothing: whoever reaches for it is not pure."""

    def __init__(self, watch: Watch, now_ms: int) -> None:
        super().__init__(lambda: now_ms)
        self.connect(_Nothing(watch))


class _Nothing:
    on_invalidate: Callable[[list[tuple[str, str, Any]] | None], None] | None = None

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def call(self, operation: str, args: bytes, timeout_ms: int) -> bytes:  # noqa: ARG002 - a gateway's call
        self._watch.reach(f"rows (`{operation}`)")

    def stream(self, channel: str, item: bytes) -> bool:  # noqa: ARG002 - a gateway's stream
        self._watch.reach(f"the stream `{channel}`")

    def counters_take(self, identifier: bytes, limits: list[Limit], cost: int) -> tuple[bool, list[int]]:  # noqa: ARG002 - a gateway's counters
        self._watch.reach("counters")

    def counters_read(self, identifier: bytes, limits: list[Limit]) -> list[int]:  # noqa: ARG002 - a gateway's counters
        self._watch.reach("counters")

    def log(self, level: str, message: str) -> None:
        """Nobody reads it."""
