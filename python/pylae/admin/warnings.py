# SPDX-License-Identifier: Apache-2.0
"""What works today and will make requests fail? Beyond Kong's endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.crud import Handler, Handlers, paged
from pylae.admin.queries import page_size
from pylae.control.warning_texts import TEXTS
from pylae.control.warnings import Warned, Warnings
from pylae.database.paging import key_before, offset_after
from pylae.errors import InvalidOptions

PATH: Final = "/warnings"
STATUS_PATH: Final = "/status/warnings"


def endpoints(warnings: Warnings) -> dict[str, Handlers]:
    """Handlers by path, of the Admin and of the Status API.

    Args:
        warnings: those that are active.
    """

    def list_at(path: str) -> Handler:
        async def list_warnings(request: Request) -> Response:
            query = request.query_params
            size, offset, kind = page_size(query), query.get("offset"), query.get("kind")
            if kind is not None and kind not in TEXTS:
                raise InvalidOptions({"kind": f"expected one of: {', '.join(TEXTS)}"})
            kind_before, key = ("", "") if offset is None else key_before(offset, 2)
            found = (one for one in warnings.every((kind_before, key)) if kind in (None, one.kind))
            # One more than asked for tells whether there is another page.
            rows = list(islice(found, size + 1))
            next_offset = offset_after(rows[size - 1].kind, rows[size - 1].key) if len(rows) > size else None
            return paged([shown(warnings, one) for one in rows[:size]], path, next_offset, query, ("kind", "size"))

        return list_warnings

    return {path: {"GET": list_at(path)} for path in (PATH, STATUS_PATH)}


def shown(warnings: Warnings, warned: Warned) -> dict[str, Any]:
    """A warning with its words."""
    told = warnings.told(warned)
    return {
        "kind": warned.kind,
        "key": warned.key,
        "since": _time(warned.since_s),
        "last_seen": _time(warned.last_seen_s),
        "count": warned.count,
        "facts": warned.facts,
        "text": told.text,
        "cure": told.cure,
    }


def _time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
