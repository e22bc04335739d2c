# SPDX-License-Identifier: Apache-2.0
"""What is said of WebAssembly filters, which this gateway does not run?"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import message
from pylae.admin.crud import Crud, Handlers, parameter, without_wasm


def endpoints(crud: Crud) -> dict[str, Handlers]:
    """Handlers by path: those that need WebAssembly say so, whatever they are asked."""
    generated = {
        path: without_wasm(*handlers) for path, handlers in crud.endpoints().items() if "filter-chains" in path.split("/")
    }
    own = {f"/routes/{{routes}}/filters/{which}": without_wasm("GET") for which in ("all", "disabled", "enabled")}
    return {**generated, **own, "/schemas/filters/{name}": {"GET": _filter_schema}}


async def _filter_schema(request: Request) -> Response:
    return message(404, f"Filter '{parameter(request, 'name')}' not found")
