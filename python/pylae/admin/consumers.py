# SPDX-License-Identifier: Apache-2.0
"""Which Consumer has this `custom_id`?"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import message
from pylae.admin.crud import Crud, Handlers


def endpoints(crud: Crud) -> dict[str, Handlers]:
    """Handlers by path."""
    collection = crud.collection("consumers")

    async def get(request: Request) -> Response:
        custom_id = request.query_params.get("custom_id")
        if custom_id is None:
            return await collection["GET"](request)
        if not custom_id:
            return message(400, "custom_id must be an unempty string")
        return await crud.list_rows(request, "consumers", "/consumers", where={"custom_id": custom_id})

    return {"/consumers": {**collection, "GET": get}}
