# SPDX-License-Identifier: Apache-2.0
"""Which endpoints does an entity have, and what do they do?

Made from the declarations. An entity has a collection and an entity endpoint; every foreign field gives its parent
a nested collection, and the entity an endpoint for its parent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, empty, message, not_allowed, not_found
from pylae.admin.bodies import read_values
from pylae.admin.queries import next_url, page_size, tag_filter
from pylae.database.changes import Row
from pylae.database.dao import Dao, ReadDao
from pylae.database.database import Database
from pylae.errors import NotFound
from pylae.schema import Entity
from pylae.schema.validate import is_uuid

Handler = Callable[[Request], Awaitable[Response]]
Handlers = dict[str, Handler]
"""By method; HEAD and OPTIONS follow from the rest."""
Find = Callable[[ReadDao, str], Row | None]
"""Finds the row that a path names."""
ALL_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
WASM_IS_OFF: Final = "this endpoint is only available when wasm is enabled"


async def _nothing_here(request: Request) -> Response:
    del request
    return not_found()


async def _wasm_is_off(request: Request) -> Response:
    del request
    return message(400, WASM_IS_OFF)


def absent(*methods: str) -> Handlers:
    """Of an endpoint that has nothing to answer with."""
    return dict.fromkeys(methods, _nothing_here)


DISABLED: Final[Handlers] = absent(*ALL_METHODS)
"""Of an endpoint that follows from the declarations and that Kong does not serve."""


def without_wasm(*methods: str) -> Handlers:
    """Of an endpoint that needs WebAssembly, which this gateway does not run."""
    return dict.fromkeys(methods, _wasm_is_off)


class Crud:
    """Makes handlers of endpoints.

    Args:
        database: where entities are kept.
        max_body_bytes: largest body of a request.
    """

    def __init__(self, database: Database, max_body_bytes: int) -> None:
        self.database = database
        self.catalogue = database.catalogue
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> dict[str, Handlers]:
        """Handlers of every generated endpoint by path; a parameter is named after the table of what it stands for."""
        found: dict[str, Handlers] = {}
        for entity in self.catalogue.entities.values():
            if entity.admin_generated:
                self._add_entity(found, entity)
        return found

    def _add_entity(self, found: dict[str, Handlers], entity: type[Entity]) -> None:
        table = entity.table
        top = f"/{entity.path_name()}"
        if entity.admin_disabled:
            found[top] = found[f"{top}/{{{table}}}"] = DISABLED
        else:
            found[top] = self.collection(table)
            found[f"{top}/{{{table}}}"] = self.entity(table)
        for column in self.catalogue.tables[table].foreign:
            parent = self.catalogue.entities.get(column.references or "")
            if parent is None or not parent.admin_generated:
                continue
            own = f"{top}/{{{table}}}/{column.field}"
            found[own] = DISABLED if entity.admin_disabled else self.foreign(table, column.field, parent.table)
            nested = f"/{parent.path_name()}/{{{parent.table}}}/{entity.nested_name()}"
            found[nested] = self.nested_collection(table, column.field, parent)
            found[f"{nested}/{{{table}}}"] = self.nested_entity(table, column.field, parent.table)

    # === handlers by kind of endpoint ===

    def collection(self, table: str) -> Handlers:
        """Of all rows."""
        path = f"/{self.catalogue.entities[table].path_name()}"

        async def get(request: Request) -> Response:
            return await self.list_rows(request, table, path, ("tags", "size"))

        async def post(request: Request) -> Response:
            values = await self.values(request, table)
            return self.shown(table, await self.database.write(lambda dao: dao.insert(table, values)), 201)

        return {"GET": get, "POST": post}

    def entity(self, table: str, find: Find | None = None, put: Handler | None = None) -> Handlers:
        """Of one row.

        Args:
            table: of the row.
            find: how it is found, when not by its id or endpoint key.
            put: another handler of PUT.
        """
        select: Find = find or (lambda dao, key: dao.select(table, key))

        async def get(request: Request) -> Response:
            key = parameter(request, table)
            return self.found(table, await self.database.read(lambda dao: select(dao, key)))

        async def put_row(request: Request) -> Response:
            key = parameter(request, table)
            values = self.keyed(table, key, await self.values(request, table))
            return self.shown(table, await self.database.write(lambda dao: dao.upsert(table, select(dao, key), values)))

        async def patch(request: Request) -> Response:
            key = parameter(request, table)
            is_form, raw = await self.raw_values(request)

            def work(dao: Dao) -> Row | None:
                old = select(dao, key)
                if old is None:
                    if table == "plugins" and raw.get("name") is None:
                        return None
                    raise self._absent(table, key)
                return dao.update(table, old, self.typed(table, raw, old, is_form=is_form))

            return self.found(table, await self.database.write(work))

        async def delete(request: Request) -> Response:
            key = parameter(request, table)

            def work(dao: Dao) -> None:
                row = select(dao, key)
                if row is not None:
                    dao.delete(table, row)

            await self.database.write(work)
            return empty()

        return {"GET": get, "PUT": put or put_row, "PATCH": patch, "DELETE": delete}

    def nested_collection(self, table: str, field: str, parent: type[Entity], find: Find | None = None) -> Handlers:
        """Of the rows that refer to a parent, which may be found otherwise than by its id or endpoint key."""
        select: Find = find or (lambda dao, key: dao.select(parent.table, key))
        nested_name = self.catalogue.entities[table].nested_name()

        async def get(request: Request) -> Response:
            key = parameter(request, parent.table)
            row = await self.database.read(lambda dao: select(dao, key))
            if row is None:
                return not_found()
            path = f"/{parent.path_name()}/{row['id']}/{nested_name}"
            return await self.list_rows(request, table, path, (), {field: row["id"]})

        async def post(request: Request) -> Response:
            key = parameter(request, parent.table)
            values = await self.values(request, table)

            def work(dao: Dao) -> Row | None:
                row = select(dao, key)
                return None if row is None else dao.insert(table, {**values, field: {"id": row["id"]}})

            return self.found(table, await self.database.write(work), 201)

        return {"GET": get, "POST": post}

    def nested_entity(self, table: str, field: str, parent_table: str) -> Handlers:
        """Of one row that refers to a parent."""
        updates_only = self.catalogue.entities[table].admin_disabled

        def find(dao: ReadDao, request: Request) -> tuple[Row | None, Row | None]:
            parent = dao.select(parent_table, parameter(request, parent_table))
            if parent is None:
                return None, None
            return parent, dao.select(table, parameter(request, table), {field: parent["id"]})

        async def get(request: Request) -> Response:
            return self.found(table, await self.database.read(lambda dao: find(dao, request)[1]))

        async def put(request: Request) -> Response:
            key = parameter(request, table)
            values = self.keyed(table, key, await self.values(request, table), field)
            is_moved = self.catalogue.tables[table].endpoint_key is not None or is_uuid(key)

            def work(dao: Dao) -> Row | None:
                parent, own = find(dao, request)
                if parent is None:
                    return None
                # A name that is unique everywhere brings the row here; one that is unique here only does not.
                row = dao.select(table, key) if is_moved else own
                return dao.upsert(table, row, {**values, field: {"id": parent["id"]}})

            return self.found(table, await self.database.write(work))

        async def patch(request: Request) -> Response:
            is_form, raw = await self.raw_values(request)

            def work(dao: Dao) -> Row | None:
                row = find(dao, request)[1]
                return None if row is None else dao.update(table, row, self.typed(table, raw, row, is_form=is_form))

            return self.found(table, await self.database.write(work))

        async def delete(request: Request) -> Response:
            def work(dao: Dao) -> bool:
                row = find(dao, request)[1]
                if row is not None:
                    dao.delete(table, row)
                return row is not None

            return empty() if await self.database.write(work) else not_found()

        return {"GET": get, "PUT": patch if updates_only else put, "PATCH": patch, "DELETE": delete}

    def foreign(self, table: str, field: str, parent_table: str) -> Handlers:
        """Of the row that a row refers to."""

        def find(dao: ReadDao, request: Request) -> tuple[Row | None, Row | None]:
            child = dao.select(table, parameter(request, table))
            if child is None or child[field] is None:
                return child, None
            return child, dao.get(parent_table, child[field]["id"])

        async def get(request: Request) -> Response:
            return self.found(parent_table, await self.database.read(lambda dao: find(dao, request)[1]))

        async def put(request: Request) -> Response:
            values = await self.values(request, parent_table)

            def work(dao: Dao) -> Row | None:
                child, parent = find(dao, request)
                if child is None:
                    return None
                if parent is not None:
                    return dao.upsert(parent_table, parent, {**values, "id": parent["id"]})
                made = dao.insert(parent_table, values)
                dao.update(table, child, {field: {"id": made["id"]}})
                return made

            return self.found(parent_table, await self.database.write(work))

        async def patch(request: Request) -> Response:
            is_form, raw = await self.raw_values(request)

            def work(dao: Dao) -> Row | None:
                parent = find(dao, request)[1]
                if parent is None:
                    return None
                return dao.update(parent_table, parent, self.typed(parent_table, raw, parent, is_form=is_form))

            return self.found(parent_table, await self.database.write(work))

        async def delete(request: Request) -> Response:
            parent = await self.database.read(lambda dao: find(dao, request)[1])
            return not_found() if parent is None else not_allowed()

        return {"GET": get, "PUT": put, "PATCH": patch, "DELETE": delete}

    # === what handlers share ===

    async def list_rows(
        self, request: Request, table: str, path: str, kept: tuple[str, ...] = (), where: Mapping[str, Any] | None = None
    ) -> Response:
        """One page of rows.

        Args:
            request: whose query says which.
            table: of the rows.
            path: where the next page is.
            kept: what of the query the next page keeps.
            where: values that rows must have.
        """
        query = request.query_params
        size, tags, offset = page_size(query), tag_filter(query), query.get("offset")
        wanted = None if where is None else dict(where)
        page = await self.database.read(lambda dao: dao.page(table, size, offset, where=wanted, tags=tags))
        schema = self.catalogue.schema(table)
        return paged([schema.present(row) for row in page.rows], path, page.offset, query, kept)

    async def values(self, request: Request, table: str) -> dict[str, Any]:
        """The values of a row that a body holds.

        Raises:
            Refusal: 400, 413 or 415.
        """
        is_form, raw = await self.raw_values(request)
        return self.typed(table, raw, {}, is_form=is_form)

    async def raw_values(self, request: Request) -> tuple[bool, dict[str, Any]]:
        """Whether a body is a form, and its values as they were sent.

        Raises:
            Refusal: 400, 413 or 415.
        """
        values, is_form = await read_values(request, self._max_body_bytes)
        return is_form, values

    def typed(self, table: str, values: dict[str, Any], old: Row, *, is_form: bool) -> dict[str, Any]:
        """Values with the types of their fields; those of a form are all text."""
        if not is_form:
            return values
        key = self.catalogue.entities[table].subschema_key
        if key is not None and key not in values and key in old:
            # A patch of a plugin does not repeat its name, by which the fields of its configuration are known.
            typed = self.catalogue.schema(table).process_form({**values, key: old[key]})
            del typed[key]
            return typed
        return self.catalogue.schema(table).process_form(values)

    def keyed(self, table: str, key: str, values: dict[str, Any], within: str | None = None) -> dict[str, Any]:
        """Values of a row that is to be found by the key of the path, perhaps below the parent of a field."""
        named_by = self.catalogue.tables[table].key_within(within)
        if is_uuid(key) or named_by is None:
            return {**values, "id": key.lower()}
        return {**values, named_by: key}

    def _absent(self, table: str, key: str) -> NotFound:
        endpoint_key = self.catalogue.tables[table].endpoint_key
        if is_uuid(key) or endpoint_key is None:
            return NotFound({"id": key})
        return NotFound({endpoint_key: key}, is_primary_key=False)

    def found(self, table: str, row: Row | None, status: int = 200) -> Response:
        """The answer that is a row; 404 when there is none."""
        return not_found() if row is None else self.shown(table, row, status)

    def shown(self, table: str, row: Row, status: int = 200) -> Response:
        """The answer that is a row."""
        return answer(status, self.catalogue.schema(table).present(row))


def paged(
    rows: list[Row], path: str, offset: str | None, query: Mapping[str, str], kept: tuple[str, ...] = (), **more: Any
) -> Response:
    """The answer that is a page of rows.

    Args:
        rows: as they are shown.
        path: where the next page is.
        offset: of the next page; None on the last.
        query: of the request.
        kept: what of it the next page keeps.
        more: stands beside the rows.
    """
    body: dict[str, Any] = {"data": rows, "next": next_url(path, offset, query, kept), **more}
    if offset is not None:
        body["offset"] = offset
    return answer(200, body)


def parameter(request: Request, name: str) -> str:
    """A parameter of the path. Paths are matched undecoded, so that a key may hold a slash."""
    return unquote(request.path_params[name])
