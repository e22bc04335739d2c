# SPDX-License-Identifier: Apache-2.0
"""Which SQL makes an entity's table, and which reads and writes its rows?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from pylae.database.changes import Row
from pylae.database.strategies import TagFilter
from pylae.database.table import PRIMARY_KEY, Table, Tables
from pylae.schema.ddl import Column, ColumnType

EXPIRES_AT: Final = "expires_at"
"""Seconds since the epoch when the row's time to live is over; null for a row that stays."""
CACHE_KEY: Final = "cache_key"
"""Fields that are unique together as one text, because SQL holds two nulls to be different."""

OWN_TABLES: Final = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "migrations": "CREATE TABLE migrations (name TEXT PRIMARY KEY, executed_at INTEGER NOT NULL)",
    # AUTOINCREMENT: a sequence is never used again, not even after the log was trimmed to nothing.
    "change_log": (
        "CREATE TABLE change_log (sequence INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, "
        "operation TEXT NOT NULL, row_id TEXT NOT NULL, invalidations TEXT NOT NULL)"
    ),
}
"""The tables beside the entities'."""

_TYPES: Final[dict[ColumnType, str]] = {
    "uuid": "TEXT",
    "text": "TEXT",
    "integer": "INTEGER",
    "number": "REAL",
    "boolean": "INTEGER",
    "json": "TEXT",
}
_ON_DELETE: Final = {"restrict": "RESTRICT", "cascade": "CASCADE", "null": "SET NULL"}

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode

Converter = Callable[[Any], Any]
"""Of a value that is not null."""
Values = dict[str, Any]


def quoted(name: str) -> str:
    """A name of a table or column inside a statement."""
    return '"' + name.replace('"', '""') + '"'


class TableStatements:
    """The statements of one table, written once, and its rows to columns and back."""

    def __init__(self, table: Table, tables: Tables) -> None:
        self.table = table
        name = quoted(table.name)
        self.columns = {column.name: _declaration(column, tables) for column in table.columns}
        """Declarations by column name."""
        self.defaults = {column.name: _default(column) for column in table.columns if column.default is not None}
        """By column name, what a column has in rows that were stored before there was such a column."""
        if table.cache_key:
            self.columns[CACHE_KEY] = "TEXT"
        if table.has_ttl:
            self.columns[EXPIRES_AT] = "REAL"
        self.indexes = _indexes(table)
        body = ", ".join(f"{quoted(column)} {declared}" for column, declared in self.columns.items())
        self.create = f"CREATE TABLE {name} ({body})"

        read = [column.name for column in table.columns] + ([EXPIRES_AT] if table.has_ttl else [])
        written = [column.name for column in table.columns] + ([CACHE_KEY] if table.cache_key else [])
        alive = f"({EXPIRES_AT} IS NULL OR {EXPIRES_AT} > :now_s)" if table.has_ttl else "1"
        self._select = f"SELECT {_listed(read)} FROM {name} WHERE {alive}"
        self.each = self._select
        self.get = f"{self._select} AND id = :id"
        stored = [*written, EXPIRES_AT] if table.has_ttl else written
        self.insert = f"INSERT INTO {name} ({_listed(stored)}) VALUES ({', '.join(f':{column}' for column in stored)})"
        assigned = ", ".join(f"{quoted(column)} = :{column}" for column in written if column != PRIMARY_KEY)
        self.update = f"UPDATE {name} SET {assigned} WHERE id = :id"
        self.update_with_ttl = f"UPDATE {name} SET {assigned}, {EXPIRES_AT} = :{EXPIRES_AT} WHERE id = :id"
        self.delete = f"DELETE FROM {name} WHERE id = :id"
        self.sweep = f"DELETE FROM {name} WHERE {EXPIRES_AT} <= :now_s"
        self.has_tags = has_tags(table)
        self._tagged = f"FROM {name} WHERE {alive} AND tags IS NOT NULL AND tags <> '[]'"
        self._finds: dict[tuple[str, ...], str] = {}

        self._fields = [column.field for column in table.columns]
        self._read = [(column.field, _reader(column)) for column in table.columns if _reader(column) is not _same]
        self._write = [(column.field, column.name, _writer(column)) for column in table.columns]

    def find(self, fields: Sequence[str]) -> str:
        """The first row that has certain values, `:find_<field>`."""
        key = tuple(fields)
        statement = self._finds.get(key)
        if statement is None:
            statement = f"{self._select}{self._same(key)} ORDER BY id LIMIT 1"
            self._finds[key] = statement
        return statement

    def _same(self, fields: Sequence[str]) -> str:
        # IS: null is found too, and an index is used.
        return "".join(f" AND {quoted(self._column(field))} IS :find_{field}" for field in fields)

    def page(self, fields: Sequence[str], tags: TagFilter | None, *, is_first: bool) -> str:
        """Rows in order of their ids, up to `:limit`, after `:after` unless it is the first page."""
        statement = self._select + self._same(fields)
        if not is_first:
            statement += " AND id > :after"
        if tags is not None:
            groups = [range(len(tags.tags))] if tags.is_any else [range(at, at + 1) for at in range(len(tags.tags))]
            for group in groups:
                wanted = ", ".join(f":tag_{at}" for at in group)
                statement += f" AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value IN ({wanted}))"
        return f"{statement} ORDER BY id LIMIT :limit"

    def tagged(self, *, is_one_tag: bool, is_first: bool) -> str:
        """Id, table and each tag of as many rows as a page of tags can need: each of them gives one tag at least."""
        rows = f"SELECT id, tags {self._tagged}"
        if is_one_tag:
            rows += " AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = :tag)"
        if not is_first:
            rows += " AND id >= :after_id"
        table_name = self.table.name.replace("'", "''")
        # One more: of the first row, all tags may have been on the page before.
        return (
            f"SELECT found.id AS row_id, '{table_name}' AS table_name, one.value AS tag "
            f"FROM ({rows} ORDER BY id LIMIT :limit + 1) AS found, json_each(found.tags) AS one"
        )

    def make_room(self) -> str:
        """Removes rows whose time is over and that have a unique value, `:find_<field>`, of another."""
        same = " OR ".join(f"{quoted(self._column(field))} = :find_{field}" for field in self.table.unique)
        return f"{self.sweep} AND ({same})"

    def _column(self, field: str) -> str:
        column = self.table.column(field)
        assert column is not None, field
        return column.name

    def row(self, values: Sequence[Any], now_s: float) -> Row:
        """A row from the values of its columns, in the order in which they are selected."""
        row = dict(zip(self._fields, values, strict=False))
        for field, convert in self._read:
            value = row[field]
            if value is not None:
                row[field] = convert(value)
        if self.table.has_ttl:
            expires_at = values[-1]
            row["ttl"] = None if expires_at is None else max(int(expires_at - now_s), 0)
        return row

    def values(self, row: Row) -> Values:
        """The values of a row by column name."""
        values: Values = {}
        for field, name, convert in self._write:
            value = row.get(field)
            values[name] = None if value is None else convert(value)
        if self.table.cache_key:
            together = [row.get(field) for field in self.table.cache_key]
            values[CACHE_KEY] = _write_json([one["id"] if isinstance(one, dict) else one for one in together])
        return values


def tagged(tables: Iterable[TableStatements], *, is_one_tag: bool, is_first: bool) -> str | None:
    """Id, table and tag of rows of all tables that can have tags, up to `:limit`, after `:after_…` unless it is the first page.

    None when no table can have tags.
    """
    parts = [table.tagged(is_one_tag=is_one_tag, is_first=is_first) for table in tables if table.has_tags]
    if not parts:
        return None
    conditions = (["tag = :tag"] if is_one_tag else []) + (
        [] if is_first else ["(row_id, table_name, tag) > (:after_id, :after_table, :after_tag)"]
    )
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ORDER BY row_id, table_name, tag LIMIT :limit"
    return f"SELECT row_id, table_name, tag FROM ({' UNION ALL '.join(parts)}){where} {order}"


def has_tags(table: Table) -> bool:
    """Whether its rows can have tags."""
    return any(column.field == "tags" and column.type == "json" for column in table.columns)


def _declaration(column: Column, tables: Tables) -> str:
    declared = _TYPES[column.type]
    if column.field == PRIMARY_KEY:
        return f"{declared} PRIMARY KEY NOT NULL"
    # A table that a later issue brings cannot be referred to yet.
    if column.references is not None and column.references in tables:
        declared += f" REFERENCES {quoted(column.references)} (id) ON DELETE {_ON_DELETE[column.on_delete]}"
    return declared


def _default(column: Column) -> str:
    """A default as it stands in SQL."""
    value = _writer(column)(column.default)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(int(value) if isinstance(value, bool) else value)


def _indexes(table: Table) -> dict[str, str]:
    """Statements by name of the index; uniqueness is one too, so that a column can be added with it."""
    unique = [column.name for column in table.columns if column.is_unique and column.field != PRIMARY_KEY]
    unique += [CACHE_KEY] if table.cache_key else []
    parents = [column.name for column in table.columns if column.references is not None and not column.is_unique]
    wanted = [("UNIQUE INDEX", f"{table.name}_{column}", [column]) for column in unique]
    # In the order of ids: a page of the children of a parent sorts nothing.
    wanted += [("INDEX", f"{table.name}_{column}_{PRIMARY_KEY}", [column, PRIMARY_KEY]) for column in parents]
    wanted += [("INDEX", f"{table.name}_{EXPIRES_AT}", [EXPIRES_AT])] if table.has_ttl else []
    made = {name: f"CREATE {kind} {quoted(name)} ON {quoted(table.name)} ({_listed(columns)})" for kind, name, columns in wanted}
    if has_tags(table):
        # Of rows that have tags alone: a page of tags passes over no others.
        name = f"{table.name}_tagged"
        made[name] = f"CREATE INDEX {quoted(name)} ON {quoted(table.name)} (id) WHERE tags IS NOT NULL AND tags <> '[]'"
    return made


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _same(value: Any) -> Any:
    return value


def _read_number(value: float) -> float:
    # Lua has one kind of number: 5.0 is shown as 5.
    return int(value) if value.is_integer() else value


def _read_foreign(value: str) -> dict[str, str]:
    return {"id": value}


def _write_json(value: Any) -> str:
    return _encode_json(value).decode()


def _write_foreign(value: dict[str, str]) -> str:
    return value["id"]


_READ: Final[dict[ColumnType, Converter]] = {"number": _read_number, "boolean": bool, "json": _decode_json}


def _reader(column: Column) -> Converter:
    return _read_foreign if column.references is not None else _READ.get(column.type, _same)


def _writer(column: Column) -> Converter:
    if column.references is not None:
        return _write_foreign
    return _write_json if column.type == "json" else _same
