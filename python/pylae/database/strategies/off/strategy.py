# SPDX-License-Identifier: Apache-2.0
"""How does a gateway without a database do what every database has to?

All rows are in memory and are replaced together: `replace` prepares the new ones aside and swaps them in by one
assignment, so that a reader sees the old configuration or the new. Rows that say the same as before keep their
timestamps and their encoded form, and are no change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from pylae.database.changes import Change, Replacement, Row
from pylae.database.strategies.off.holding import Holding, HoldingReader, Rows, decode_row
from pylae.database.strategies.off.store import load, save
from pylae.database.table import Tables
from pylae.errors import OperationUnsupported, StrategyUnavailable

EMPTY_HASH: Final = "0" * 32
MAX_TOLD_CHANGES: Final = 10_000
"""Of a replacement that changes more, workers take the whole."""


class OffReader(HoldingReader):
    """One consistent look.

    Attributes:
        holding: what it looks at; that of its sequence.
    """

    def __init__(self, strategy: OffStrategy) -> None:
        self.holding, self._sequence = strategy.held()
        super().__init__(self.holding, strategy.clock())

    def sequence(self) -> int:
        """See `Reader`."""
        return self._sequence

    def changes_after(self, sequence: int) -> list[Change]:
        """See `Reader`: none are kept, a worker that is behind takes the whole."""
        del sequence
        return []


class OffTransaction(OffReader):
    """Refuses every write; what it says depends on how the row was looked for."""

    is_read_only = True

    def __init__(self, strategy: OffStrategy) -> None:
        super().__init__(strategy)
        # By table, the field by which a row was looked for last: a path names it, or the id.
        self._sought_by: dict[str, str] = {}

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """See `Reader`."""
        self._sought_by[table] = next(iter(values))
        return super().find(table, values)

    def insert(self, table: str, row: Row, ttl_s: float | None = None) -> None:
        """See `Transaction`."""
        del row, ttl_s
        if table in self._sought_by:
            raise self._unsupported("create or update", table)
        raise _unsupported("create", table)

    def update(self, table: str, row: Row, ttl_s: float | None = None, *, keeps_ttl: bool = True) -> None:
        """See `Transaction`."""
        del row, ttl_s
        raise self._unsupported("update" if keeps_ttl else "create or update", table)

    def delete(self, table: str, id_: str) -> None:
        """See `Transaction`."""
        del id_
        raise self._unsupported("remove", table)

    def _unsupported(self, operation: str, table: str) -> OperationUnsupported:
        field = self._sought_by.get(table, "id")
        return _unsupported(operation, table, None if field == "id" else field)

    def log(self, changes: Sequence[Change]) -> list[Change]:
        """See `Transaction`; there is never any."""
        return list(changes)

    def sweep(self) -> int:
        """See `Transaction`: rows whose time is over stay where they are, unseen, until the next replacement."""
        return 0


def _unsupported(operation: str, table: str, field: str | None = None) -> OperationUnsupported:
    by = "" if field is None else f" by '{field}'"
    return OperationUnsupported(f"cannot {operation} '{table}' entities{by} when not using a database")


class OffStrategy:
    """The configuration in memory, and in a file that outlives the process.

    Args:
        path: of that file.
        tables: what there is to hold.
        database_id: of this node's configuration.
        source: who tells us to read a text: it differs between two starts, and before and after a reload, but not when
            the process died and is back. Only a new one makes `read_text` be called.
        read_text: the configuration that the settings name; None when they name none.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        tables: Tables,
        database_id: str,
        source: str = "",
        read_text: Callable[[], Holding] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.tables = tables
        self._path = path
        self._database_id = database_id
        self._source = source
        self._read_text = read_text
        self._writing = threading.Lock()
        # One object for what belongs together, so that no reader sees half of a replacement.
        self._held: tuple[Holding, int] | None = None

    def __repr__(self) -> str:
        return f"<off {self._held}>"

    @property
    def database_id(self) -> str:
        """See `Strategy`."""
        return self._database_id

    @property
    def holding(self) -> Holding:
        """What is held now."""
        return self.held()[0]

    @property
    def sequence(self) -> int:
        """Of the last change."""
        return self.held()[1]

    def held(self) -> tuple[Holding, int]:
        """What is held now, and the sequence of its last change.

        Raises:
            StrategyUnavailable: nothing was loaded yet.
        """
        if self._held is None:
            raise StrategyUnavailable("the configuration is not loaded yet")
        return self._held

    def open(self) -> None:
        """See `Strategy`; also reads the text that the settings name, when this start is the first to.

        Raises:
            InvalidDeclarativeConfig: the text is wrong; what was stored stays.
        """
        found = load(self._path, self.tables)
        if found is None:
            empty = Holding(self.tables, EMPTY_HASH)
            empty.finish()
            self._held = empty, 0
        else:
            head, holding = found
            self._held = holding, head.sequence
        if self._read_text is not None and (found is None or found[0].source != self._source):
            self.replace(self._read_text(), self._source)

    def close(self) -> None:
        """See `Strategy`."""

    @contextmanager
    def read(self) -> Iterator[OffReader]:
        """See `Strategy`."""
        yield OffReader(self)

    @contextmanager
    def write(self) -> Iterator[OffTransaction]:
        """See `Strategy`."""
        yield OffTransaction(self)

    def replace(self, holding: Holding, source: str | None = None) -> Replacement:
        """Puts a whole configuration in the place of the present one.

        Args:
            holding: what is to be held; rows that were made with `keep` share their bytes with the present ones.
            source: see the class; None leaves it as it was.

        Raises:
            StrategyUnavailable: it cannot be stored; the present one stays.
        """
        with self._writing:
            old, sequence = self.held()
            if source is not None:
                self._source = source
            changes, count = _changes(old, holding, sequence)
            if count or holding.hash != old.hash or source is not None:
                save(self._path, holding, sequence + count, self._source)
            self._held = holding, sequence + count
            return Replacement(
                changes=changes if count <= MAX_TOLD_CHANGES else (),
                sequence=sequence + count,
                rows={name: rows.encoded for name, rows in holding.items()},
                is_whole=count > MAX_TOLD_CHANGES,
                plugins=holding["plugins"].leading_keys() if "plugins" in holding else frozenset(),
            )


class _Times(msgspec.Struct):
    """When a row was made and written."""

    created_at: float | int | None = None
    updated_at: float | int | None = None


_decode_times = msgspec.msgpack.Decoder(_Times).decode


def keep_times(row: Row, old: bytes, encode: Callable[[Row], bytes], *, is_creation_given: bool) -> bytes:
    """A row's encoded form: the old bytes when it says the same as they, times aside.

    Args:
        row: the new one, whose times are set to what they shall be.
        old: the one of the same id that is held now.
        encode: makes bytes of a row.
        is_creation_given: whether the text said when it was made.
    """
    times = _decode_times(old)
    updated_at = row.get("updated_at")
    if not is_creation_given and times.created_at is not None:
        row["created_at"] = times.created_at
    if times.updated_at is not None:
        row["updated_at"] = times.updated_at
    encoded = encode(row)
    if encoded == old:
        return old
    if updated_at is not None:
        row["updated_at"] = updated_at
        encoded = encode(row)
    return encoded


def _changes(old: Holding, new: Holding, sequence: int) -> tuple[list[Change], int]:
    """What differs, numbered on from a sequence, and how much that is; rows that went come first, children before parents."""
    changes: list[Change] = []
    count = 0
    for name in reversed(list(new)):
        before, after = old[name].encoded, new[name].encoded
        for id_ in before.keys() - after.keys():
            count += 1
            if count <= MAX_TOLD_CHANGES:
                changes.append(_change(new[name], sequence + count, id_, before[id_], None))
    for name, rows in new.items():
        before, ends, old_ends = old[name].encoded, rows.expires_at_s, old[name].expires_at_s
        for id_, encoded in rows.encoded.items():
            present = before.get(id_)
            # When a row expires is not in its bytes: what remembers it, or that there was none, must ask again.
            is_same = present is encoded or present == encoded
            if not is_same or ends.get(id_) != old_ends.get(id_):
                count += 1
                if count <= MAX_TOLD_CHANGES:
                    changes.append(_change(rows, sequence + count, id_, present, encoded))
    return changes, count


def _change(rows: Rows, sequence: int, id_: str, old: bytes | None, new: bytes | None) -> Change:
    table = rows.table
    row = None if new is None else decode_row(new)
    invalidations = table.invalidations(None if old is None else decode_row(old), row)
    return Change(sequence, table.name, "upsert" if row else "delete", id_, row, invalidations)
