# SPDX-License-Identifier: Apache-2.0
"""Which endpoints does an entity have, and what do they do?

Made from the declarations. An entity has a collection and an entity endpoint; every foreign field gives its parent
a nested collection, and the entity an endpoint for its parent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
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


class Crud:
    """Makes handlers of endpoints.

    Args:
        database: where entities are kept.
        max_body_bytes: largest body of a request.
    """

    def __init__(self, database: Database, max_body_bytes: int) -> None:
        self._database = database
        self._catalogue = database.catalogue
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> dict[str, Handlers]:
        """Handlers of every generated endpoint by path; a parameter is named after the table of what it stands for."""
        found: dict[str, Handlers] = {}
        for entity in self._catalogue.entities.values():
            self._add_entity(found, entity)
        return found

    def _add_entity(self, found: dict[str, Handlers], entity: type[Entity]) -> None:
        table = entity.table
        top = f"/{entity.path_name()}"
        disabled: Handlers = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), _disabled)
        if entity.admin_disabled:
            found[top] = found[f"{top}/{{{table}}}"] = disabled
        else:
            found[top] = self._collection(table)
            found[f"{top}/{{{table}}}"] = self._entity(table)
        for column in self._catalogue.tables[table].foreign:
            parent = self._catalogue.entities.get(column.references or "")
            if parent is None:
                continue
            own = f"{top}/{{{table}}}/{column.field}"
            found[own] = disabled if entity.admin_disabled else self._foreign(table, column.field, parent.table)
            nested = f"/{parent.path_name()}/{{{parent.table}}}/{entity.nested_name()}"
            found[nested] = self._nested_collection(table, column.field, parent)
            found[f"{nested}/{{{table}}}"] = self._nested_entity(table, column.field, parent.table)

    # === handlers by kind of endpoint ===

    def _collection(self, table: str) -> Handlers:
        path = f"/{self._catalogue.entities[table].path_name()}"

        async def get(request: Request) -> Response:
            return await self._list(request, table, path, ("tags", "size"))

        async def post(request: Request) -> Response:
            values = await self._values(request, table)
            return self._shown(table, await self._database.write(lambda dao: dao.insert(table, values)), 201)

        return {"GET": get, "POST": post}

    def _entity(self, table: str) -> Handlers:
        async def get(request: Request) -> Response:
            key = _parameter(request, table)
            return self._found(table, await self._database.read(lambda dao: dao.select(table, key)))

        async def put(request: Request) -> Response:
            key = _parameter(request, table)
            values = self._keyed(table, key, await self._values(request, table))
            return self._shown(table, await self._database.write(lambda dao: dao.upsert(table, dao.select(table, key), values)))

        async def patch(request: Request) -> Response:
            key = _parameter(request, table)
            is_form, raw = await self._raw_values(request)

            def work(dao: Dao) -> Row | None:
                old = dao.select(table, key)
                if old is None:
                    if table == "plugins" and raw.get("name") is None:
                        return None
                    raise self._absent(table, key)
                return dao.update(table, old, self._typed(table, raw, old, is_form=is_form))

            return self._found(table, await self._database.write(work))

        async def delete(request: Request) -> Response:
            key = _parameter(request, table)

            def work(dao: Dao) -> None:
                row = dao.select(table, key)
                if row is not None:
                    dao.delete(table, row)

            await self._database.write(work)
            return empty()

        return {"GET": get, "PUT": put, "PATCH": patch, "DELETE": delete}

    def _nested_collection(self, table: str, field: str, parent: type[Entity]) -> Handlers:
        nested_name = self._catalogue.entities[table].nested_name()

        async def get(request: Request) -> Response:
            key = _parameter(request, parent.table)
            row = await self._database.read(lambda dao: dao.select(parent.table, key))
            if row is None:
                return not_found()
            path = f"/{parent.path_name()}/{row['id']}/{nested_name}"
            return await self._list(request, table, path, (), {field: row["id"]})

        async def post(request: Request) -> Response:
            key = _parameter(request, parent.table)
            values = await self._values(request, table)

            def work(dao: Dao) -> Row | None:
                row = dao.select(parent.table, key)
                return None if row is None else dao.insert(table, {**values, field: {"id": row["id"]}})

            return self._found(table, await self._database.write(work), 201)

        return {"GET": get, "POST": post}

    def _nested_entity(self, table: str, field: str, parent_table: str) -> Handlers:
        updates_only = self._catalogue.entities[table].admin_disabled

        def find(dao: ReadDao, request: Request) -> tuple[Row | None, Row | None]:
            parent = dao.select(parent_table, _parameter(request, parent_table))
            if parent is None:
                return None, None
            return parent, dao.select(table, _parameter(request, table), {field: parent["id"]})

        async def get(request: Request) -> Response:
            return self._found(table, await self._database.read(lambda dao: find(dao, request)[1]))

        async def put(request: Request) -> Response:
            key = _parameter(request, table)
            values = self._keyed(table, key, await self._values(request, table))

            def work(dao: Dao) -> Row | None:
                parent, _ = find(dao, request)
                if parent is None:
                    return None
                return dao.upsert(table, dao.select(table, key), {**values, field: {"id": parent["id"]}})

            return self._found(table, await self._database.write(work))

        async def patch(request: Request) -> Response:
            is_form, raw = await self._raw_values(request)

            def work(dao: Dao) -> Row | None:
                row = find(dao, request)[1]
                return None if row is None else dao.update(table, row, self._typed(table, raw, row, is_form=is_form))

            return self._found(table, await self._database.write(work))

        async def delete(request: Request) -> Response:
            def work(dao: Dao) -> bool:
                row = find(dao, request)[1]
                if row is not None:
                    dao.delete(table, row)
                return row is not None

            return empty() if await self._database.write(work) else not_found()

        return {"GET": get, "PUT": patch if updates_only else put, "PATCH": patch, "DELETE": delete}

    def _foreign(self, table: str, field: str, parent_table: str) -> Handlers:
        def find(dao: ReadDao, request: Request) -> tuple[Row | None, Row | None]:
            child = dao.select(table, _parameter(request, table))
            if child is None or child[field] is None:
                return child, None
            return child, dao.get(parent_table, child[field]["id"])

        async def get(request: Request) -> Response:
            return self._found(parent_table, await self._database.read(lambda dao: find(dao, request)[1]))

        async def put(request: Request) -> Response:
            values = await self._values(request, parent_table)

            def work(dao: Dao) -> Row | None:
                child, parent = find(dao, request)
                if child is None:
                    return None
                if parent is not None:
                    return dao.upsert(parent_table, parent, {**values, "id": parent["id"]})
                made = dao.insert(parent_table, values)
                dao.update(table, child, {field: {"id": made["id"]}})
                return made

            return self._found(parent_table, await self._database.write(work))

        async def patch(request: Request) -> Response:
            is_form, raw = await self._raw_values(request)

            def work(dao: Dao) -> Row | None:
                parent = find(dao, request)[1]
                if parent is None:
                    return None
                return dao.update(parent_table, parent, self._typed(parent_table, raw, parent, is_form=is_form))

            return self._found(parent_table, await self._database.write(work))

        async def delete(request: Request) -> Response:
            parent = await self._database.read(lambda dao: find(dao, request)[1])
            return not_found() if parent is None else not_allowed()

        return {"GET": get, "PUT": put, "PATCH": patch, "DELETE": delete}

    # === what handlers share ===

    async def _list(
        self, request: Request, table: str, path: str, kept: tuple[str, ...], where: dict[str, Any] | None = None
    ) -> Response:
        query = request.query_params
        size, tags, offset = page_size(query), tag_filter(query), query.get("offset")
        if table == "consumers" and where is None and "custom_id" in query:
            if not query["custom_id"]:
                return message(400, "custom_id must be an unempty string")
            where = {"custom_id": query["custom_id"]}
        page = await self._database.read(lambda dao: dao.page(table, size, offset, where=where, tags=tags))
        schema = self._catalogue.schema(table)
        body = {
            "data": [schema.present(row) for row in page.rows],
            "next": next_url(path, page.offset, query, kept),
        }
        if page.offset is not None:
            body["offset"] = page.offset
        return answer(200, body)

    async def _values(self, request: Request, table: str) -> dict[str, Any]:
        is_form, raw = await self._raw_values(request)
        return self._typed(table, raw, {}, is_form=is_form)

    async def _raw_values(self, request: Request) -> tuple[bool, dict[str, Any]]:
        values, is_form = await read_values(request, self._max_body_bytes)
        return is_form, values

    def _typed(self, table: str, values: dict[str, Any], old: Row, *, is_form: bool) -> dict[str, Any]:
        """Values with the types of their fields; those of a form are all text."""
        if not is_form:
            return values
        key = self._catalogue.entities[table].subschema_key
        if key is not None and key not in values and key in old:
            # A patch of a plugin does not repeat its name, by which the fields of its configuration are known.
            typed = self._catalogue.schema(table).process_form({**values, key: old[key]})
            del typed[key]
            return typed
        return self._catalogue.schema(table).process_form(values)

    def _keyed(self, table: str, key: str, values: dict[str, Any]) -> dict[str, Any]:
        """Values of a row that is to be found by the key of the path."""
        endpoint_key = self._catalogue.tables[table].endpoint_key
        if is_uuid(key) or endpoint_key is None:
            return {**values, "id": key.lower()}
        return {**values, endpoint_key: key}

    def _absent(self, table: str, key: str) -> NotFound:
        endpoint_key = self._catalogue.tables[table].endpoint_key
        if is_uuid(key) or endpoint_key is None:
            return NotFound({"id": key})
        return NotFound({endpoint_key: key}, is_primary_key=False)

    def _found(self, table: str, row: Row | None, status: int = 200) -> Response:
        return not_found() if row is None else self._shown(table, row, status)

    def _shown(self, table: str, row: Row, status: int = 200) -> Response:
        return answer(status, self._catalogue.schema(table).present(row))


async def _disabled(request: Request) -> Response:
    del request
    return not_found()


def _parameter(request: Request, name: str) -> str:
    """A parameter of the path. Paths are matched undecoded, so that a key may hold a slash."""
    return unquote(request.path_params[name])
