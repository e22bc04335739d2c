# SPDX-License-Identifier: Apache-2.0
"""How does an event loop use the database without waiting for it?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pylae.database.changes import Change, Commit, Replacement
from pylae.database.dao import Catalogue, Dao, ReadDao
from pylae.database.strategies import Strategy

READ_THREADS: Final = 4

T = TypeVar("T")


class _Over(Exception):
    """Ends a transaction of which nothing is to stay."""


class Database:
    """A database in threads of its own: one that writes, some that read.

    Args:
        strategy: which kind of database.
        catalogue: what it holds.
        on_commit: told of every commit, in order, on the event loop, before the write returns.
    """

    def __init__(self, strategy: Strategy, catalogue: Catalogue, on_commit: Callable[[Commit | Replacement], None]) -> None:
        self.strategy = strategy
        self.catalogue = catalogue
        self._on_commit = on_commit
        self._writer = ThreadPoolExecutor(1, "database-write")
        self._readers = ThreadPoolExecutor(READ_THREADS, "database-read")

    def __repr__(self) -> str:
        return f"<database {self.strategy!r}>"

    async def open(self) -> None:
        """Connects and migrates.

        Raises:
            StrategyUnavailable: it cannot be reached.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer, self.strategy.open)

    async def close(self) -> None:
        """Disconnects once what was begun has ended."""

        def run() -> None:
            # A look that outlived its caller would go on with a connection that is closed.
            self._readers.shutdown()
            self.strategy.close()

        await asyncio.get_running_loop().run_in_executor(self._writer, run)
        self._writer.shutdown()

    async def read(self, work: Callable[[ReadDao], T]) -> T:
        """Runs `work` on one consistent look."""

        def run() -> T:
            with self.strategy.read() as reader:
                return work(ReadDao(reader, self.catalogue))

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Callable[[Dao], T]) -> T:
        """Runs `work` in a transaction of its own; what it changed is committed when this returns, or nothing is."""
        loop = asyncio.get_running_loop()

        def run() -> T:
            with self.strategy.write() as transaction:
                dao = Dao(transaction, self.catalogue)
                result = work(dao)
                changes = transaction.log(dao.changes)
            if changes:
                # From this thread, so that commits are told in the order in which they were made.
                loop.call_soon_threadsafe(self._on_commit, Commit(changes))
            return result

        # Shielded: a client that leaves must not make us forget to tell of its commit.
        return await asyncio.shield(loop.run_in_executor(self._writer, run))

    async def rehearse(self, work: Callable[[Dao], T]) -> tuple[T, list[Change], int]:
        """Runs `work` in a transaction that ends as if it had never been: nobody is told of it.

        Returns:
            What `work` returned, what it changed, and the sequence of the newest change that was there before.
        """

        def run() -> tuple[T, list[Change], int]:
            rehearsed: tuple[T, list[Change], int] | None = None
            try:
                with self.strategy.write() as transaction:
                    dao = Dao(transaction, self.catalogue)
                    rehearsed = work(dao), dao.changes, dao.sequence()
                    raise _Over
            except _Over:
                assert rehearsed is not None
                return rehearsed

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, run))

    async def replace(self, work: Callable[[], Replacement]) -> Replacement:
        """Runs `work`, which puts a whole configuration in the place of the present one, or raises and leaves it."""
        loop = asyncio.get_running_loop()

        def run() -> Replacement:
            replacement = work()
            loop.call_soon_threadsafe(self._on_commit, replacement)
            return replacement

        return await asyncio.shield(loop.run_in_executor(self._writer, run))

    async def sweep(self) -> int:
        """Removes rows whose time to live is over; how many."""

        def run() -> int:
            with self.strategy.write() as transaction:
                return transaction.sweep()

        return await asyncio.get_running_loop().run_in_executor(self._writer, run)
