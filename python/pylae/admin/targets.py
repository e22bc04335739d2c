# SPDX-License-Identifier: Apache-2.0
"""Which Targets are stored for an Upstream?"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import not_found
from pylae.admin.crud import Crud, Handlers, parameter


def endpoints(crud: Crud) -> dict[str, Handlers]:
    """Handlers by path."""

    async def get_all(request: Request) -> Response:
        key = parameter(request, "upstreams")
        upstream = await crud.database.read(lambda dao: dao.select("upstreams", key))
        if upstream is None:
            return not_found()
        path = f"/upstreams/{upstream['id']}/targets/all"
        return await crud.list_rows(request, "targets", path, where={"upstream": upstream["id"]})

    return {"/upstreams/{upstreams}/targets/all": {"GET": get_all}}
