# SPDX-License-Identifier: Apache-2.0
"""How does SQLite do what every database has to?

The file is in WAL mode: readers see the last commit and never wait. There is one writer connection, whose
transactions begin as IMMEDIATE. `synchronous` is FULL, not NORMAL: an answered Admin write must survive a power
cut, as it does with PostgreSQL; the fsync is paid by the writer's thread, not by the event loop.

The statements are few and written out (`statements.py`): importing a library that writes them took 190 ms of the
620 ms of CPU that control needs before workers can serve (measured 2026-11-24), and each read five times as long.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from pylae.database.changes import Change, Row
from pylae.database.migrations import MIGRATIONS
from pylae.database.strategies import TagFilter, TagKey
from pylae.database.strategies.sqlite.migrating import bring_up_to_date
from pylae.database.strategies.sqlite.statements import CACHE_KEY, EXPIRES_AT, TableStatements, Values, tagged
from pylae.database.table import Table, Tables
from pylae.errors import DatabaseError, ForeignKeyViolation, PrimaryKeyViolation, StrategyUnavailable, UniqueViolation

BUSY_TIMEOUT_S: Final = 5.0
MAX_LOGGED_CHANGES: Final = 10_000
"""A worker that is further behind gets a snapshot."""
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
)
_INSERT_CHANGE: Final = "INSERT INTO change_log (table_name, operation, row_id, invalidations) VALUES (?, ?, ?, ?)"
_SELECT_CHANGES: Final = (
    "SELECT sequence, table_name, operation, row_id, invalidations FROM change_log WHERE sequence > ? ORDER BY sequence"
)

_encode_json = msgspec.json.Encoder().encode
_decode_invalidations = msgspec.json.Decoder(tuple[tuple[str, str, Any], ...]).decode


class SqliteReader:
    """One consistent look at the file."""

    def __init__(self, strategy: SqliteStrategy, connection: sqlite3.Connection) -> None:
        self._statements = strategy.statements
        self._connection = connection
        self._clock = strategy.clock
        self._now_s = strategy.clock()

    def _select(self, table: str, statement: str, values: Values) -> Iterator[Row]:
        statements = self._statements[table]
        for found in self._connection.execute(statement, {**values, "now_s": self._now_s}):
            # What is alive is judged at one moment; the seconds left are told as of now: 9 of 10 just after the insert.
            yield statements.row(found, self._clock() if statements.table.has_ttl else self._now_s)

    def get(self, table: str, id_: str) -> Row | None:
        """See `Reader`."""
        return next(self._select(table, self._statements[table].get, {"id": id_}), None)

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """See `Reader`."""
        return next(self._select(table, self._statements[table].find(tuple(values)), _wanted(values)), None)

    def page(
        self,
        table: str,
        *,
        limit: int,
        after: str | None = None,
        where: dict[str, Any] | None = None,
        tags: TagFilter | None = None,
    ) -> list[Row]:
        """See `Reader`."""
        where = where or {}
        values = {"limit": limit, "after": after, **_wanted(where)}
        if tags is not None:
            values |= {f"tag_{at}": tag for at, tag in enumerate(tags.tags)}
        statement = self._statements[table].page(tuple(where), tags, is_first=after is None)
        return list(self._select(table, statement, values))

    def each(self, table: str) -> Iterator[Row]:
        """See `Reader`."""
        return self._select(table, self._statements[table].each, {})

    def tagged(self, tag: str | None, *, limit: int, after: TagKey | None = None) -> list[TagKey]:
        """See `Reader`."""
        statement = tagged(self._statements.values(), is_one_tag=tag is not None, is_first=after is None)
        if statement is None:
            return []
        after_id, after_table, after_tag = after or ("", "", "")
        values = {"after_id": after_id, "after_table": after_table, "after_tag": after_tag, "tag": tag, "limit": limit}
        return list(self._connection.execute(statement, {**values, "now_s": self._now_s}))

    def sequence(self) -> int:
        """See `Reader`."""
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'").fetchone()
        return 0 if found is None else int(found[0])

    def changes_after(self, sequence: int) -> list[Change]:
        """See `Reader`."""
        return [
            Change(number, table, operation, row_id, None, _decode_invalidations(invalidations))
            for number, table, operation, row_id, invalidations in self._connection.execute(_SELECT_CHANGES, (sequence,))
        ]


def _wanted(values: dict[str, Any]) -> Values:
    return {f"find_{field}": value for field, value in values.items()}


class SqliteTransaction(SqliteReader):
    """A look that may also change the file."""

    is_read_only = False

    def insert(self, table: str, row: Row, ttl_s: float | None = None) -> None:
        """See `Transaction`."""
        statements = self._statements[table]
        values = statements.values(row)
        if statements.table.has_ttl:
            values[EXPIRES_AT] = None if ttl_s is None else self._now_s + ttl_s
        self._make_room(statements, row)
        self._write(statements.table, row, statements.insert, values)

    def update(self, table: str, row: Row, ttl_s: float | None = None, *, keeps_ttl: bool = True) -> None:
        """See `Transaction`."""
        statements = self._statements[table]
        values = statements.values(row)
        statement = statements.update
        if statements.table.has_ttl and (ttl_s is not None or not keeps_ttl):
            values[EXPIRES_AT] = None if ttl_s is None else self._now_s + ttl_s
            statement = statements.update_with_ttl
        self._make_room(statements, row)
        self._write(statements.table, row, statement, values)

    def _make_room(self, statements: TableStatements, row: Row) -> None:
        """A row whose time is over but that was not swept yet must not stand in the way of another."""
        if statements.table.has_ttl:
            unique = _wanted({field: row.get(field) for field in statements.table.unique})
            self._connection.execute(statements.make_room(), {**unique, "now_s": self._now_s})

    def _write(self, table: Table, row: Row, statement: str, values: Values) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.IntegrityError as error:
            raise _translate(table, row, error) from error

    def delete(self, table: str, id_: str) -> None:
        """See `Transaction`."""
        self._connection.execute(self._statements[table].delete, {"id": id_})

    def log(self, changes: Sequence[Change]) -> list[Change]:
        """See `Transaction`."""
        logged = []
        for change in changes:
            invalidations = _encode_json(change.invalidations).decode()
            values = (change.table, change.operation, change.id, invalidations)
            sequence = self._connection.execute(_INSERT_CHANGE, values).lastrowid
            assert sequence is not None
            logged.append(replace(change, sequence=sequence))
        return logged

    def sweep(self) -> int:
        """See `Transaction`."""
        swept = 0
        for statements in self._statements.values():
            if statements.table.has_ttl:
                swept += self._connection.execute(statements.sweep, {"now_s": self._now_s}).rowcount
        oldest_kept = self.sequence() - MAX_LOGGED_CHANGES
        self._connection.execute("DELETE FROM change_log WHERE sequence <= ?", (oldest_kept,))
        return swept


def _translate(table: Table, row: Row, error: sqlite3.IntegrityError) -> DatabaseError:
    """Which of our errors is one of SQLite's? It names the columns: `UNIQUE constraint failed: services.name`."""
    what, _, names = str(error).partition(" constraint failed: ")
    columns = [name.partition(".")[2] for name in names.split(", ")]
    if what != "UNIQUE":
        return ForeignKeyViolation(str(error))
    if columns == ["id"]:
        return PrimaryKeyViolation({"id": row["id"]})
    if columns == [CACHE_KEY]:
        return UniqueViolation({name: row.get(name) for name in table.cache_key})
    by_column = {column.name: column.field for column in table.columns}
    return UniqueViolation({by_column[name]: row.get(by_column[name]) for name in columns})


class SqliteStrategy:
    """The configuration in one file.

    Args:
        path: of the file; made when it is not there.
        tables: what it has to hold.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, tables: Tables, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.statements = {name: TableStatements(table, tables) for name, table in tables.items()}
        self._path = path
        self._database_id = ""
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        # Connections nobody reads from now; as many are made as there ever were readers at once.
        self._idle: list[sqlite3.Connection] = []

    def __repr__(self) -> str:
        return f"<sqlite {self._path} {self._database_id}>"

    @property
    def database_id(self) -> str:
        """See `Strategy`."""
        return self._database_id

    def open(self) -> None:
        """See `Strategy`."""
        try:
            # Not left to SQLite: the file holds secrets from its first byte.
            self._path.touch(mode=0o600)
        except OSError as error:
            raise StrategyUnavailable(f"`{self._path}` cannot be written: {error.strerror}") from error
        with translating():
            self._writer = self._connect()
        try:
            with self._transaction(self._writer, "BEGIN IMMEDIATE") as connection:
                bring_up_to_date(connection, self.statements.values(), int(self.clock()), MIGRATIONS)
                self._database_id = _database_id(connection)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        # isolation_level: transactions begin where we say.
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
        with translating():
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has already done so itself after some faults, such as a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[SqliteReader]:
        """See `Strategy`."""
        if self._writer is None:
            raise StrategyUnavailable("the database is not open")
        try:
            connection = self._idle.pop()
        except IndexError:
            with translating():
                connection = self._connect()
        try:
            with self._transaction(connection, "BEGIN"):
                yield SqliteReader(self, connection)
        except StrategyUnavailable:
            connection.close()
            raise
        except BaseException:
            self._idle.append(connection)
            raise
        self._idle.append(connection)

    @contextmanager
    def write(self) -> Iterator[SqliteTransaction]:
        """See `Strategy`."""
        with self._writing:
            if self._writer is None:
                raise StrategyUnavailable("the database is not open")
            with self._transaction(self._writer, "BEGIN IMMEDIATE") as connection:
                yield SqliteTransaction(self, connection)

    def close(self) -> None:
        """See `Strategy`."""
        while self._idle:
            self._idle.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextmanager
def translating() -> Iterator[None]:
    """Whatever SQLite refuses is the database that cannot be worked with."""
    try:
        yield
    except sqlite3.Error as error:
        raise StrategyUnavailable(f"sqlite: {error}") from error


def _database_id(connection: sqlite3.Connection) -> str:
    found = connection.execute("SELECT value FROM meta WHERE key = 'database_id'").fetchone()
    if found is not None:
        return str(found[0])
    made = str(uuid.uuid4())
    connection.execute("INSERT INTO meta (key, value) VALUES ('database_id', ?)", (made,))
    return made
