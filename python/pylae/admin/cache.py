# SPDX-License-Identifier: Apache-2.0
"""What is cached of the database, and how is it forgotten?

Control caches nothing: it reads the database. Workers keep the rows that plugins looked up, each under its table and
field, and forget them by themselves when they change; an operator can make them forget all.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import empty, not_found
from pylae.admin.crud import Handlers, parameter
from pylae.control.control import Control


def endpoints(control: Control) -> dict[str, Handlers]:
    """Handlers by path."""

    async def purge(request: Request) -> Response:
        del request
        control.line.forget_lookups()
        return empty()

    async def forget(request: Request) -> Response:
        # Kong's keys begin with the table: `keyauth_credentials:<key>::::<workspace>`.
        table = parameter(request, "key").partition(":")[0]
        if table in control.catalogue.tables:
            control.line.forget_lookups()
        return empty()

    return {"/cache": {"DELETE": purge}, "/cache/{key}": {"GET": _get, "DELETE": forget}}


async def _get(request: Request) -> Response:
    del request
    return not_found()
