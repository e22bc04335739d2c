# SPDX-License-Identifier: Apache-2.0
"""What may a worker ask control to do?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pylae.control.line import CallRefused
from pylae.database.changes import Row
from pylae.database.dao import Dao, ReadDao
from pylae.database.database import Database
from pylae.database.table import Table
from pylae.declarative.importing import import_text


class SelectBy(msgspec.Struct):
    """Reads one row by a unique field; the rows of the foreign fields in `with` come along whole."""

    table: str
    field: str
    value: Any
    joined: list[str] = msgspec.field(default_factory=list, name="with")


class SelectOwned(msgspec.Struct):
    """Reads all rows that the row `owner` of another table owns by a foreign field."""

    table: str
    field: str
    owner: str


class Insert(msgspec.Struct):
    """Adds one row, for `ttl` seconds when given."""

    table: str
    row: dict[str, Any]
    ttl: float | None = None


class Update(msgspec.Struct):
    """Changes one row, which lasts `ttl` seconds from now on when given; an absent one stays absent."""

    table: str
    id: str
    changes: dict[str, Any]
    ttl: float | None = None


class Delete(msgspec.Struct):
    """Removes one row; an absent one is no error."""

    table: str
    id: str


class Consume(msgspec.Struct):
    """Reads and removes one row: of all who try, one gets it."""

    table: str
    field: str
    value: Any


class Import(msgspec.Struct):
    """Stores what a declarative configuration declares; asked by a command, not by workers."""

    text: bytes


class Calls:
    """Answers workers' calls from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """The value of one call.

        Raises:
            CallRefused, DatabaseError: it is refused.
        """
        try:
            match operation:
                case "select_by":
                    return await self._select_by(msgspec.convert(arguments, SelectBy))
                case "select_owned":
                    return await self._select_owned(msgspec.convert(arguments, SelectOwned))
                case "insert":
                    return await self._insert(msgspec.convert(arguments, Insert))
                case "update":
                    return await self._update(msgspec.convert(arguments, Update))
                case "delete":
                    return await self._delete(msgspec.convert(arguments, Delete))
                case "consume":
                    return await self._consume(msgspec.convert(arguments, Consume))
                case "import":
                    return await self._import(msgspec.convert(arguments, Import))
        except msgspec.ValidationError as error:
            raise CallRefused(f"`{operation}`: {error}") from error
        raise CallRefused(f"there is no operation `{operation}`")

    async def _select_by(self, call: SelectBy) -> Row | None:
        def work(dao: ReadDao) -> Row | None:
            row = dao.select_unique(call.table, call.field, call.value)
            if row is not None:
                for name in call.joined:
                    column = self._table(call.table).column(name)
                    if column is None or column.references is None:
                        raise CallRefused(f"`{call.table}` has no foreign field `{name}`")
                    if row[name] is not None:
                        row[name] = dao.get(column.references, row[name]["id"])
            return row

        return await self._database.read(work)

    async def _select_owned(self, call: SelectOwned) -> list[Row]:
        return await self._database.read(lambda dao: dao.select_owned(call.table, call.field, call.owner))

    async def _insert(self, call: Insert) -> Row:
        self._table(call.table)
        row = call.row if call.ttl is None else {**call.row, "ttl": call.ttl}
        return await self._database.write(lambda dao: dao.insert(call.table, row))

    async def _update(self, call: Update) -> Row | None:
        self._table(call.table)
        patch = call.changes if call.ttl is None else {**call.changes, "ttl": call.ttl}

        def work(dao: Dao) -> Row | None:
            row = dao.get(call.table, call.id)
            return None if row is None else dao.update(call.table, row, patch)

        return await self._database.write(work)

    async def _delete(self, call: Delete) -> None:
        self._table(call.table)

        def work(dao: Dao) -> None:
            row = dao.get(call.table, call.id)
            if row is not None:
                dao.delete(call.table, row)

        await self._database.write(work)

    async def _consume(self, call: Consume) -> Row | None:
        def work(dao: Dao) -> Row | None:
            row = dao.select_unique(call.table, call.field, call.value)
            if row is not None:
                dao.delete(call.table, row)
            return row

        return await self._database.write(work)

    async def _import(self, call: Import) -> int:
        catalogue = self._database.catalogue
        return await self._database.write(lambda dao: import_text(dao, catalogue, call.text))

    def _table(self, name: str) -> Table:
        table = self._database.catalogue.tables.get(name)
        if table is None:
            raise CallRefused(f"there is no table `{name}`")
        return table
