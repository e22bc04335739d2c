# SPDX-License-Identifier: Apache-2.0
"""Who takes what the workers stream?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from pylae.control.expansion import VAULTS
from pylae.control.line import Log, WorkerState
from pylae.database.changes import Row
from pylae.database.dao import ReadDao
from pylae.database.database import Database
from pylae.sdk.plugin import Plugin
from pylae.sdk.references import Resolver, resolved
from pylae.sdk.shipping import Shipper
from pylae.vaults import VaultRows, Vaults

LOG_CHANNEL: Final = "log:"
MAX_WAITING_BATCHES: Final = 1000
"""A Shipper takes batches at once and keeps its own bounds; this one holds for a Shipper that does not."""


class ShipperSide:
    """What a plugin's Shipper may ask of control."""

    def __init__(self, plugins: Mapping[str, type[Plugin]], database: Database, log: Log, vaults: Vaults) -> None:
        self._plugins = plugins
        self._database = database
        self._log = log
        self._resolver = Resolver(vaults, log)

    def log(self, level: str, message: str) -> None:
        """Writes one line to the error log."""
        self._log(level, message)

    async def plugin_config(self, plugin_id: str) -> dict[str, Any] | None:
        """The configuration of a row of `plugins`, with secrets in the place of references."""

        def work(dao: ReadDao) -> tuple[Row | None, VaultRows]:
            has_vaults = VAULTS in self._database.catalogue.tables
            return dao.get("plugins", plugin_id), {row["prefix"]: row for row in dao.each(VAULTS)} if has_vaults else {}

        row, vaults = await self._database.read(work)
        if row is None:
            return None
        plugin = self._plugins.get(row["name"])
        config: dict[str, Any] = row["config"]
        return config if plugin is None else resolved(plugin.Config, config, partial(self._resolver.get, rows=vaults))


class Taker(Protocol):
    """A part of control that keeps what workers tell it."""

    def take(self, worker: WorkerState | None, items: Sequence[bytes], lost_count: int = 0) -> None:
        """Keeps the items and returns at once; raises for none."""
        ...


class Streams:
    """Hands log batches to the Shipper of their plugin, and other channels to who takes them; the rest is counted.

    Args:
        takers: parts of control, by channel.
    """

    def __init__(
        self,
        plugins: Mapping[str, type[Plugin]],
        database: Database,
        log: Log,
        vaults: Vaults,
        takers: Mapping[str, Taker],
    ) -> None:
        self._takers = dict(takers)
        side = ShipperSide(plugins, database, log, vaults)
        self._log = log
        self._shippers: dict[str, Shipper] = {
            LOG_CHANNEL + name: plugin.Shipper(side) for name, plugin in plugins.items() if plugin.Shipper is not None
        }
        self._queues: dict[str, asyncio.Queue[tuple[Sequence[bytes], int]]] = {}
        self._lost_counts: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.untaken_count = 0

    async def start(self) -> None:
        """Makes the shippers ready."""
        for channel, shipper in self._shippers.items():
            await shipper.start()
            queue: asyncio.Queue[tuple[Sequence[bytes], int]] = asyncio.Queue(MAX_WAITING_BATCHES)
            self._queues[channel] = queue
            self._tasks.append(asyncio.get_running_loop().create_task(self._ship(channel, shipper, queue)))

    async def _ship(self, channel: str, shipper: Shipper, queue: asyncio.Queue[tuple[Sequence[bytes], int]]) -> None:
        while True:
            items, lost_count = await queue.get()
            try:
                await shipper.ship(items, lost_count)
            except Exception as error:
                self._log("error", f"{channel}: {len(items)} entries were lost: {type(error).__name__}: {error}")

    def take(self, channel: str, items: Sequence[bytes], lost_count: int, worker: WorkerState | None = None) -> None:
        """Keeps the items for their taker."""
        taker = self._takers.get(channel)
        if taker is not None:
            taker.take(worker, items, lost_count)
            return
        queue = self._queues.get(channel)
        if queue is None:
            self.untaken_count += len(items) + lost_count
            return
        lost_count += self._lost_counts.pop(channel, 0)
        if queue.full():
            self._lost_counts[channel] = lost_count + len(items)
        else:
            queue.put_nowait((items, lost_count))

    async def stop(self) -> None:
        """Delivers what can still be delivered."""
        for task in self._tasks:
            task.cancel()
        for channel, queue in self._queues.items():
            shipper = self._shippers[channel]
            while not queue.empty():
                await shipper.ship(*queue.get_nowait())
            await shipper.stop()
