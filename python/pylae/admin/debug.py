# SPDX-License-Identifier: Apache-2.0
"""From which severity on does the gateway write into its error log, and how is that changed while it runs?"""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import message
from pylae.admin.crud import Handlers, parameter
from pylae.control.log import LEVELS
from pylae.control.log_level import DEFAULT_TIMEOUT_S, LogLevel


def endpoints(log_level: LogLevel, *, has_database: bool) -> dict[str, Handlers]:
    """Handlers by path."""

    async def get(request: Request) -> Response:
        del request
        return message(200, f"log level: {log_level.level}")

    async def put(request: Request) -> Response:
        if not has_database:
            return message(405, "cannot change log level when not using a database")
        level = parameter(request, "log_level")
        timeout_s = _timeout_s(request.query_params.get("timeout"))
        if level not in LEVELS:
            return message(400, f"unknown log level: {level}")
        if timeout_s is None:
            return message(400, "timeout must be greater than or equal to 0")
        if level == log_level.level:
            return message(200, f"log level is already {level}")
        log_level.change(level, timeout_s)
        return message(200, "log level changed")

    return {
        "/debug/node/log-level": {"GET": get},
        "/debug/node/log-level/{log_level}": {"PUT": put},
        # This node is all of its cluster.
        "/debug/cluster/log-level/{log_level}": {"PUT": put},
    }


def _timeout_s(given: str | None) -> float | None:
    """Seconds; None for what is not a time."""
    if given is None:
        return DEFAULT_TIMEOUT_S
    try:
        timeout_s = float(given)
    except ValueError:
        return None
    return timeout_s if math.isfinite(timeout_s) and timeout_s >= 0 else None
