# SPDX-License-Identifier: Apache-2.0
"""What does every database have to be able to do?

A strategy keeps rows and the change log, and knows nothing of schemas: what a write means (defaults, cascades,
who refers to whom) is the `Dao`'s business, the same for all. One suite, `tests/strategies`, holds them to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pylae.database.changes import Change, Row


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Rows that have all of these tags, or any of them."""

    tags: tuple[str, ...]
    is_any: bool


TagKey = tuple[str, str, str]
"""Id of a row, its table, one of its tags: the order in which tags are listed."""


class Reader(Protocol):
    """One consistent look at the database. Rows whose time to live is over are not there."""

    def get(self, table: str, id_: str) -> Row | None:
        """The row of an id."""
        ...

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """The row that has these values by field (of a foreign field, the id); of several, the one with the lowest id."""
        ...

    def page(
        self,
        table: str,
        *,
        limit: int,
        after: str | None = None,
        where: dict[str, Any] | None = None,
        tags: TagFilter | None = None,
    ) -> list[Row]:
        """Up to `limit` rows in the order of their ids, beginning after an id."""
        ...

    def each(self, table: str) -> Iterator[Row]:
        """Every row."""
        ...

    def tagged(self, tag: str | None, *, limit: int, after: TagKey | None = None) -> list[TagKey]:
        """Up to `limit` tags of rows of all tables, or the rows that have a certain one; in order, beginning after a key."""
        ...

    def sequence(self) -> int:
        """Of the newest change in the change log; grows for ever, also over restarts and trimmings."""
        ...

    def changes_after(self, sequence: int) -> list[Change]:
        """What the change log still holds after a sequence, oldest first, rows left out."""
        ...


class Transaction(Reader, Protocol):
    """A look at the database that may also change it; all of it is committed, or nothing."""

    is_read_only: bool
    """Whether it refuses every change: there is nothing to be written to."""

    def insert(self, table: str, row: Row, ttl_s: float | None = None) -> None:
        """Adds a row.

        Raises:
            UniqueViolation, PrimaryKeyViolation: there is one like it.
        """
        ...

    def update(self, table: str, row: Row, ttl_s: float | None = None, *, keeps_ttl: bool = True) -> None:
        """Replaces the row of the same id, if it is there.

        Without a new time to live it keeps the one it has, or with `keeps_ttl=False` stays for ever.

        Raises:
            UniqueViolation: there is another like it.
        """
        ...

    def delete(self, table: str, id_: str) -> None:
        """Removes a row, if it is there."""
        ...

    def log(self, changes: Sequence[Change]) -> list[Change]:
        """Writes changes into the change log and returns them with their sequences."""
        ...

    def sweep(self) -> int:
        """Removes rows whose time to live is over and what the change log need not remember; how many rows."""
        ...


class Strategy(Protocol):
    """One kind of database.

    Every method may raise `StrategyUnavailable` when the database cannot be reached or refuses to work (a full disk,
    a broken file); a transaction that raises leaves nothing behind.
    """

    @property
    def database_id(self) -> str:
        """A uuid made when the database was, by which its copies on other machines know it."""
        ...

    def open(self) -> None:
        """Connects, and brings the tables to their present shape."""
        ...

    def close(self) -> None:
        """Disconnects."""
        ...

    def read(self) -> AbstractContextManager[Reader]:
        """A consistent look; any thread, any number at a time."""
        ...

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction; one at a time."""
        ...
