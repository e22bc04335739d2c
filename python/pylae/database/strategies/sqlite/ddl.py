# SPDX-License-Identifier: Apache-2.0
"""Which SQL tables hold an entity's rows, and how does a row become columns and come back?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from pylae.database.changes import Row
from pylae.database.table import PRIMARY_KEY, Table, Tables
from pylae.schema.ddl import Column, ColumnType

EXPIRES_AT: Final = "expires_at"
"""Seconds since the epoch when the row's time to live is over; null for a row that stays."""
CACHE_KEY: Final = "cache_key"
"""Fields that are unique together as one text, because SQL holds two nulls to be different."""

_TYPES: Final[dict[ColumnType, type[sa.types.TypeEngine[Any]]]] = {
    "uuid": sa.Text,
    "text": sa.Text,
    "integer": sa.BigInteger,
    "number": sa.Float,
    "boolean": sa.Integer,
    "json": sa.Text,
}
_ON_DELETE: Final = {"restrict": "RESTRICT", "cascade": "CASCADE", "null": "SET NULL"}

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def meta_tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table, sa.Table]:
    """The tables beside the entities': `meta`, `migrations`, `change_log`."""
    meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))
    migrations = sa.Table(
        "migrations",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("executed_at", sa.BigInteger, nullable=False),
    )
    change_log = sa.Table(
        "change_log",
        metadata,
        # AUTOINCREMENT: a sequence is never used again, not even after the log was trimmed to nothing.
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("row_id", sa.Text, nullable=False),
        sa.Column("invalidations", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    return meta, migrations, change_log


def sql_table(table: Table, tables: Tables, metadata: sa.MetaData) -> sa.Table:
    """The SQL table of an entity."""
    columns = [_sql_column(column, tables) for column in table.columns]
    if table.cache_key:
        columns.append(sa.Column(CACHE_KEY, sa.Text, unique=True))
    if table.has_ttl:
        columns.append(sa.Column(EXPIRES_AT, sa.Float, index=True))
    return sa.Table(table.name, metadata, *columns)


def _sql_column(column: Column, tables: Tables) -> sa.Column[Any]:
    kind = _TYPES[column.type]
    if column.field == PRIMARY_KEY:
        return sa.Column(PRIMARY_KEY, kind, primary_key=True)
    # A table that a later issue brings cannot be referred to yet.
    if column.references is not None and column.references in tables:
        constraint = sa.ForeignKey(f"{column.references}.id", ondelete=_ON_DELETE[column.on_delete])
        return sa.Column(column.name, kind, constraint, index=True)
    return sa.Column(column.name, kind, unique=column.is_unique or None)


def cache_key_of(table: Table, row: Row) -> str | None:
    """The fields that are unique together, as one text."""
    if not table.cache_key:
        return None
    values = [row.get(name) for name in table.cache_key]
    return _encode_json([value["id"] if isinstance(value, dict) else value for value in values]).decode()


Converter = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _read_number(value: float | None) -> float | None:
    # Lua has one kind of number: 5.0 is shown as 5.
    return int(value) if value is not None and value.is_integer() else value


def _read_boolean(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _read_json(value: str | None) -> Any:
    return None if value is None else _decode_json(value)


def _read_foreign(value: str | None) -> dict[str, str] | None:
    return None if value is None else {"id": value}


def _write_json(value: Any) -> str | None:
    return None if value is None else _encode_json(value).decode()


def _write_foreign(value: dict[str, str] | None) -> str | None:
    return None if value is None else value["id"]


_READ: Final[dict[ColumnType, Converter]] = {
    "number": _read_number,
    "boolean": _read_boolean,
    "json": _read_json,
}


def _reader(column: Column) -> Converter:
    return _read_foreign if column.references is not None else _READ.get(column.type, _same)


def _writer(column: Column) -> Converter:
    if column.references is not None:
        return _write_foreign
    return _write_json if column.type == "json" else _same


class RowCodec:
    """Rows of one table to columns and back."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read = [(column.field, _reader(column)) for column in table.columns]
        self._write = [(column.field, column.name, _writer(column)) for column in table.columns]

    def read(self, values: Any, now_s: float) -> Row:
        """A row from the values of its columns, in the order of the table's columns, then `expires_at` if it has one."""
        row = {field: convert(value) for (field, convert), value in zip(self._read, values, strict=False)}
        if self._table.has_ttl:
            expires_at = values[-1]
            row["ttl"] = None if expires_at is None else max(int(expires_at - now_s), 0)
        return row

    def write(self, row: Row) -> dict[str, Any]:
        """Values by column name."""
        values = {name: convert(row.get(field)) for field, name, convert in self._write}
        if self._table.cache_key:
            values[CACHE_KEY] = cache_key_of(self._table, row)
        return values
