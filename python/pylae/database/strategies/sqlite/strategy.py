# SPDX-License-Identifier: Apache-2.0
"""How does SQLite do what every database has to?

The file is in WAL mode: readers see the last commit and never wait. There is one writer connection, whose
transactions begin as IMMEDIATE. `synchronous` is FULL, not NORMAL: an answered Admin write must survive a power
cut, as it does with PostgreSQL; the fsync is paid by the writer's thread, not by the event loop.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pylae.database.changes import Change, Row
from pylae.database.migrations import bring_up_to_date
from pylae.database.strategies import TagFilter
from pylae.database.strategies.sqlite.ddl import CACHE_KEY, EXPIRES_AT, RowCodec, meta_tables, sql_table
from pylae.database.table import Table, Tables
from pylae.errors import DatabaseError, ForeignKeyViolation, PrimaryKeyViolation, StrategyUnavailable, UniqueViolation

BUSY_TIMEOUT_S: Final = 5.0
MAX_LOGGED_CHANGES: Final = 10_000
"""A worker that is further behind gets a snapshot."""
READ_CONNECTIONS: Final = 4

_encode_json = msgspec.json.Encoder().encode
_decode_invalidations = msgspec.json.Decoder(tuple[tuple[str, str, Any], ...]).decode


class _Statements:
    """The statements of one table, built once: building costs more than running."""

    def __init__(self, table: Table, sql: sa.Table) -> None:
        self.table = table
        self.sql = sql
        self.codec = RowCodec(table)
        columns = [sql.c[column.name] for column in table.columns]
        self.select = sa.select(*columns)
        if table.has_ttl:
            expires_at = sql.c[EXPIRES_AT]
            self.select = self.select.add_columns(expires_at)
            self.select = self.select.where(sa.or_(expires_at.is_(None), expires_at > sa.bindparam("now_s")))
        self.get = self.select.where(sql.c.id == sa.bindparam("id"))
        self.insert = sql.insert()
        self.update = sql.update().where(sql.c.id == sa.bindparam("row_id"))
        self.delete = sql.delete().where(sql.c.id == sa.bindparam("row_id"))

        self._finds: dict[tuple[str, ...], sa.Select[Any]] = {}

    def find(self, fields: tuple[str, ...]) -> sa.Select[Any]:
        """The first row that has certain values."""
        statement = self._finds.get(fields)
        if statement is None:
            same = [self.column(name).is_not_distinct_from(sa.bindparam(f"find_{name}")) for name in fields]
            statement = self._finds[fields] = self.select.where(*same).order_by(self.sql.c.id).limit(1)
        return statement

    def column(self, field: str) -> sa.Column[Any]:
        """The SQL column of a field."""
        column = self.table.column(field)
        assert column is not None, field
        return self.sql.c[column.name]


class SqliteReader:
    """One consistent look at the file."""

    def __init__(self, strategy: SqliteStrategy, connection: sa.Connection) -> None:
        self._strategy = strategy
        self._connection = connection
        self._now_s = strategy.clock()

    def _select(self, statements: _Statements, statement: sa.Select[Any], **values: Any) -> list[Row]:
        if statements.table.has_ttl:
            values["now_s"] = self._now_s
        rows = self._connection.execute(statement, values)
        return [statements.codec.read(row, self._now_s) for row in rows]

    def get(self, table: str, id_: str) -> Row | None:
        """See `Reader`."""
        statements = self._strategy.statements[table]
        rows = self._select(statements, statements.get, id=id_)
        return rows[0] if rows else None

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """See `Reader`."""
        statements = self._strategy.statements[table]
        rows = self._select(statements, statements.find(tuple(values)), **{f"find_{name}": values[name] for name in values})
        return rows[0] if rows else None

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
        statements = self._strategy.statements[table]
        statement = statements.select.order_by(statements.sql.c.id).limit(limit)
        if after is not None:
            statement = statement.where(statements.sql.c.id > after)
        for field, value in (where or {}).items():
            statement = statement.where(statements.column(field) == value)
        if tags is not None:
            statement = statement.where(_has_tags(statements.sql, tags))
        return self._select(statements, statement)

    def each(self, table: str) -> Iterator[Row]:
        """See `Reader`."""
        statements = self._strategy.statements[table]
        yield from self._select(statements, statements.select)

    def sequence(self) -> int:
        """See `Reader`."""
        found = self._connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'change_log'").scalar()
        return int(found or 0)

    def changes_after(self, sequence: int) -> list[Change]:
        """See `Reader`."""
        log = self._strategy.change_log
        rows = self._connection.execute(sa.select(log).where(log.c.sequence > sequence).order_by(log.c.sequence))
        return [
            Change(row.sequence, row.table_name, row.operation, row.row_id, None, _decode_invalidations(row.invalidations))
            for row in rows
        ]


def _has_tags(sql: sa.Table, filter_: TagFilter) -> sa.ColumnElement[bool]:
    def has(tags: Sequence[str]) -> sa.ColumnElement[bool]:
        each = sa.func.json_each(sql.c.tags).table_valued("value")
        return sa.exists().where(each.c.value.in_(tags))

    if filter_.is_any:
        return has(filter_.tags)
    return sa.and_(*(has((tag,)) for tag in filter_.tags))


class SqliteTransaction(SqliteReader):
    """A look that may also change the file."""

    def insert(self, table: str, row: Row, ttl_s: float | None = None) -> None:
        """See `Transaction`."""
        statements = self._strategy.statements[table]
        values = statements.codec.write(row)
        if statements.table.has_ttl:
            values[EXPIRES_AT] = None if ttl_s is None else self._now_s + ttl_s
            self._make_room(statements, row)
        self._execute(statements, row, statements.insert, values)

    def _make_room(self, statements: _Statements, row: Row) -> None:
        # A row whose time is over but that was not swept yet must not stand in the way of a new one.
        sql = statements.sql
        same = [statements.column(field) == row.get(field) for field in statements.table.unique]
        self._connection.execute(sql.delete().where(sa.or_(*same), sql.c[EXPIRES_AT] <= self._now_s))

    def update(self, table: str, row: Row, ttl_s: float | None = None, *, keeps_ttl: bool = True) -> None:
        """See `Transaction`."""
        statements = self._strategy.statements[table]
        values = statements.codec.write(row)
        if statements.table.has_ttl and (ttl_s is not None or not keeps_ttl):
            values[EXPIRES_AT] = None if ttl_s is None else self._now_s + ttl_s
        self._execute(statements, row, statements.update, {**values, "row_id": row["id"]})

    def _execute(self, statements: _Statements, row: Row, statement: Any, values: dict[str, Any]) -> None:
        try:
            self._connection.execute(statement, values)
        except sa.exc.IntegrityError as error:
            raise _translate(statements.table, row, error) from error

    def delete(self, table: str, id_: str) -> None:
        """See `Transaction`."""
        self._connection.execute(self._strategy.statements[table].delete, {"row_id": id_})

    def log(self, changes: Sequence[Change]) -> list[Change]:
        """See `Transaction`."""
        logged = []
        for change in changes:
            values = {
                "table_name": change.table,
                "operation": change.operation,
                "row_id": change.id,
                "invalidations": _encode_json(change.invalidations).decode(),
            }
            result = self._connection.execute(self._strategy.insert_change, values)
            assert result.lastrowid is not None
            logged.append(replace(change, sequence=result.lastrowid))
        return logged

    def sweep(self) -> int:
        """See `Transaction`."""
        swept = 0
        for statements in self._strategy.statements.values():
            if statements.table.has_ttl:
                expires_at = statements.sql.c[EXPIRES_AT]
                swept += self._connection.execute(statements.sql.delete().where(expires_at <= self._now_s)).rowcount
        log = self._strategy.change_log
        oldest_kept = self.sequence() - MAX_LOGGED_CHANGES
        self._connection.execute(log.delete().where(log.c.sequence <= oldest_kept))
        return swept


def _translate(table: Table, row: Row, error: sa.exc.IntegrityError) -> DatabaseError:
    """Which of our errors is one of SQLite's? It names the columns: `UNIQUE constraint failed: services.name`."""
    text = str(error.orig)
    what, _, names = text.partition(" constraint failed: ")
    columns = [name.partition(".")[2] for name in names.split(", ")]
    if what == "FOREIGN KEY" or not names:
        return ForeignKeyViolation(text)
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
        self._path = path
        self._metadata = sa.MetaData()
        self._meta, self._migrations, self.change_log = meta_tables(self._metadata)
        self.statements = {name: _Statements(table, sql_table(table, tables, self._metadata)) for name, table in tables.items()}
        self.insert_change = self.change_log.insert()
        self._database_id = ""
        self._writer: sa.Engine | None = None
        self._readers: sa.Engine | None = None

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
        self._writer = self._engine("BEGIN IMMEDIATE", connection_count=1)
        self._readers = self._engine("BEGIN", connection_count=READ_CONNECTIONS)
        with self._begin(self._writer) as connection:
            bring_up_to_date(connection, self._metadata, self._migrations, int(self.clock()))
            found = connection.execute(sa.select(self._meta.c.value).where(self._meta.c.key == "database_id")).scalar()
            if found is None:
                found = str(uuid.uuid4())
                connection.execute(self._meta.insert(), {"key": "database_id", "value": found})
            self._database_id = found

    def _engine(self, begin: str, connection_count: int) -> sa.Engine:
        engine = sa.create_engine(
            f"sqlite:///{self._path}",
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
            pool_size=connection_count,
            max_overflow=0,
        )

        def prepare(connection: sqlite3.Connection, _: object) -> None:
            # The driver must not begin transactions on its own.
            connection.isolation_level = None
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY"):
                connection.execute(f"PRAGMA {pragma}")

        def start(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

        sa.event.listen(engine, "connect", prepare)
        sa.event.listen(engine, "begin", start)
        return engine

    @contextmanager
    def _begin(self, engine: sa.Engine | None) -> Iterator[sa.Connection]:
        if engine is None:
            raise StrategyUnavailable("the database is not open")
        try:
            with engine.begin() as connection:
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            _refuse(error)

    @contextmanager
    def read(self) -> Iterator[SqliteReader]:
        """See `Strategy`."""
        with self._begin(self._readers) as connection:
            yield SqliteReader(self, connection)

    @contextmanager
    def write(self) -> Iterator[SqliteTransaction]:
        """See `Strategy`."""
        with self._begin(self._writer) as connection:
            yield SqliteTransaction(self, connection)

    def close(self) -> None:
        """See `Strategy`."""
        for engine in (self._readers, self._writer):
            if engine is not None:
                engine.dispose()
        self._readers = self._writer = None


def _refuse(error: Exception) -> NoReturn:
    cause = error.orig if isinstance(error, DBAPIError) else error
    raise StrategyUnavailable(f"sqlite: {cause}") from error
