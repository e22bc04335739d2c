# SPDX-License-Identifier: Apache-2.0
"""Which data planes does a control plane know?"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import message
from pylae.admin.crud import Handlers

NOT_A_CONTROL_PLANE: Final = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster"


def endpoints() -> dict[str, Handlers]:
    """Handlers by path: a node of this version is never a control plane for others."""
    return {"/clustering/data-planes": {"GET": _refuse}, "/clustering/status": {"GET": _refuse}}


async def _refuse(request: Request) -> Response:
    del request
    return message(400, NOT_A_CONTROL_PLANE)
