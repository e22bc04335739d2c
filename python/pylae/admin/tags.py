# SPDX-License-Identifier: Apache-2.0
"""Which rows have which tags?

A tag is a word on a row: it comes and goes with the row's own field, and cannot be written here. Kong's generated
endpoints for writing one mean nothing either.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.crud import Crud, Handler, Handlers, paged, parameter
from pylae.admin.queries import page_size
from pylae.errors import OperationUnsupported


def endpoints(crud: Crud) -> dict[str, Handlers]:
    """Handlers by path."""

    async def listed(request: Request, tag: str | None, path: str, kept: tuple[str, ...]) -> Response:
        query = request.query_params
        size, offset = page_size(query), query.get("offset")
        page = await crud.database.read(lambda dao: dao.tagged(tag, size, offset))
        return paged(page.rows, path, page.offset, query, kept)

    async def get_all(request: Request) -> Response:
        return await listed(request, None, "/tags", ("size",))

    async def get_one(request: Request) -> Response:
        return await listed(request, parameter(request, "tags"), f"/tags/{request.path_params['tags']}", ())

    return {
        "/tags": {"GET": get_all, "POST": _refuse("create")},
        "/tags/{tags}": {
            "GET": get_one,
            "PUT": _refuse("upsert"),
            "PATCH": _refuse("update"),
            "DELETE": _refuse("delete"),
        },
    }


def _refuse(verb: str) -> Handler:
    async def refuse(request: Request) -> Response:
        del request
        raise OperationUnsupported(f"cannot {verb} 'tags' entities; hint: write the field `tags` of the entity that has them")

    return refuse
