# SPDX-License-Identifier: Apache-2.0
"""Who takes what plugins streamed away from the workers?

A plugin's `Shipper` lives in the control process, on its asyncio loop. Workers hand it items with
`host.stream("log:<plugin>", item)`; nothing it does can slow a request down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class ShipperHost(Protocol):
    """What the control process offers a Shipper."""

    def log(self, level: str, message: str) -> None:
        """Writes one line to the control process' log."""
        ...

    async def plugin_config(self, plugin_id: str) -> dict[str, Any] | None:
        """The configuration of a row of `plugins`; `None` when it is gone."""
        ...


class Shipper:
    """Base of every shipper; one object per plugin and control process."""

    def __init__(self, host: ShipperHost) -> None:
        self.host = host

    async def start(self) -> None:
        """Runs once before the first items come."""

    async def ship(self, items: Sequence[bytes], lost_count: int = 0) -> None:
        """Takes items of one worker and returns at once.

        Args:
            items: What the plugin gave to `host.stream`, oldest first.
            lost_count: Items the worker had to drop since its last call.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """Delivers what it can within 5 s, then gives up."""
