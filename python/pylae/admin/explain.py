# SPDX-License-Identifier: Apache-2.0
"""Why did this request fail, and which others did lately?

Beyond Kong's endpoints. What is shown is what the worker that served it recorded, and the verdict on it; values that the
worker withheld are not there to be shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, message, not_found
from pylae.admin.crud import Handlers, paged, parameter
from pylae.admin.queries import page_size
from pylae.control.control import Control
from pylae.control.explain import Kept, Kind, is_request_id
from pylae.database.paging import key_before, offset_after
from pylae.errors import InvalidOffset, InvalidOptions
from pylae.explain import facts
from pylae.explain.document import document_of
from pylae.explain.verdict import verdict_of

PATH: Final = "/explain"
WAIT_S: Final = 0.25
"""A record may be behind the answer that the client has already."""
LOOKED_AT_ONCE: Final = 2000
SHOWN_AT_ONCE: Final = 10
"""Before others get their turn."""
FILTERS: Final = ("kind", "cause", "status", "route", "service", "since", "probe")
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAX_SHOWN_CHARACTERS: Final = 64
_STATUS: Final = re.compile(r"[1-9][0-9][0-9]|[1-9]xx")
_AGO: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records a query asks for."""

    kind: Kind | None = None
    cause: str | None = None
    status: str | None = None
    route: str | None = None
    service: str | None = None
    since_s: float | None = None
    probe: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], now_s: float) -> Wanted:
        """What a query says.

        Raises:
            InvalidOptions: 400.
        """
        errors = {name: "cannot be empty" for name in FILTERS if query.get(name) == ""}
        kind, status, since = query.get("kind"), query.get("status"), query.get("since")
        if kind and kind not in KINDS:
            errors["kind"] = f"expected one of: {', '.join(KINDS)}"
        if status and _STATUS.fullmatch(status) is None:
            errors["status"] = "expected a status such as 502, or a class such as 5xx"
        since_s = None
        if since:
            try:
                since_s = _time_s(since, now_s)
            except ValueError:
                errors["since"] = "expected a time such as 2026-01-31T12:00:00Z, seconds of the epoch, or an age such as 15m"
        if errors:
            raise InvalidOptions(errors)
        found = next((one for one in KINDS if one == kind), None)
        names = {name: query.get(name) for name in ("cause", "route", "service", "probe")}
        return cls(found, status=status, since_s=since_s, **names)

    def admits(self, kept: Kept) -> bool:
        """Whether a record is one of them."""
        return (
            (self.kind is None or kept.kind == self.kind)
            and (self.cause is None or kept.cause == self.cause)
            and (self.status is None or _has_status(kept, self.status))
            and (self.route is None or self.route in kept.route)
            and (self.service is None or self.service in kept.service)
            and (self.since_s is None or kept.received_s >= self.since_s)
            and (self.probe is None or kept.probe == self.probe)
        )


def endpoints(control: Control) -> dict[str, Handlers]:
    """Handlers by path."""
    explain = control.explain

    async def list_records(request: Request) -> Response:
        query = request.query_params
        size, offset, wanted = page_size(query), query.get("offset"), Wanted.of(query, explain.now_s())
        before = None if offset is None else _sequence_before(offset)
        found: Iterable[Kept] = explain.records(wanted.kind, before)
        if wanted.probe is not None:
            marked = reversed(explain.of_probe(wanted.probe))
            found = (kept for kept in marked if before is None or kept.sequence < before)
        rows: list[Kept] = []
        # One more than asked for tells whether there is another page.
        for number, kept in enumerate(found, 1):
            if number % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if wanted.admits(kept):
                rows.append(kept)
                if len(rows) > size:
                    break
        next_offset = offset_after(str(rows[size - 1].sequence)) if len(rows) > size else None
        shown = []
        for number, kept in enumerate(rows[:size], 1):
            if number % SHOWN_AT_ONCE == 0:
                await asyncio.sleep(0)
            shown.append(row_of(kept, control.admin_url))
        return paged(shown, PATH, next_offset, query, (*FILTERS, "size"))

    async def get_document(request: Request) -> Response:
        id_ = parameter(request, "request_id")
        if not is_request_id(id_):
            shown = id_ if len(id_) <= MAX_SHOWN_CHARACTERS else f"{id_[:MAX_SHOWN_CHARACTERS]}..."
            return message(400, f"`{shown}` is no request id: expected 32 hexadecimal digits, as in X-Kong-Request-Id")
        kept = await explain.wait_for(id_.lower(), WAIT_S)
        if kept is None:
            return not_found()
        record = kept.record()
        is_current = _is_current(control, record.get("config"))
        # Of the Routes of another time nobody knows why they were chosen.
        explanation = await control.explained_routes.explain(record) if is_current else None
        document = document_of(record, admin_url=control.admin_url, route_explanation=explanation, is_config_current=is_current)
        return answer(200, document)

    return {PATH: {"GET": list_records}, f"{PATH}/{{request_id}}": {"GET": get_document}}


def row_of(kept: Kept, admin_url: str) -> dict[str, Any]:
    """A record as a list shows it.

    Args:
        kept: the record.
        admin_url: of the Admin API, for the calls in a cure.
    """
    known = facts.read(kept.record())
    verdict = verdict_of(known, admin_url=admin_url)
    return {
        "request_id": kept.id,
        "time": known.time,
        "kind": kept.kind,
        "status": kept.status,
        "request": {"method": known.request.method, "host": known.request.host, "path": known.request.path},
        "route": _named(kept.route),
        "service": _named(kept.service),
        "cause": verdict.cause,
        "hop": verdict.hop,
        "phase": verdict.phase,
        "confidence": verdict.confidence,
        "summary": verdict.summary,
        "duration_ms": known.duration_ms,
        "probe": kept.probe,
    }


def _named(row: tuple[str | None, str | None]) -> dict[str, str | None] | None:
    return None if row == (None, None) else {"id": row[0], "name": row[1]}


def _is_current(control: Control, config: object) -> bool:
    """Whether workers serve what they did then, as far as Routes, Services, plugins, Upstreams and Targets go.

    Args:
        control: has what workers serve.
        config: of a record: a database's id and a sequence.
    """
    if control.feed is None or not isinstance(config, str):
        return False
    database_id, _, sequence = config.rpartition(":")
    return re.fullmatch(r"[0-9]{1,18}", sequence) is not None and control.feed.is_as_at((database_id, int(sequence)))


def _has_status(kept: Kept, status: str) -> bool:
    shown = str(kept.status)
    return shown[:1] == status[:1] if status.endswith("xx") else shown == status


def _sequence_before(offset: str) -> int:
    """The sequence of the record that a page follows.

    Raises:
        InvalidOffset: no page of ours had this offset.
    """
    (text,) = key_before(offset)
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise InvalidOffset(offset, "bad offset string")
    return int(text)


def _time_s(text: str, now_s: float) -> float:
    """The time of the epoch that a text names.

    Raises:
        ValueError: it names none.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_s - int(ago[1]) * _UNITS_S[ago[2]]
    if _SECONDS.fullmatch(text):
        return float(text)
    # A query has a blank where `+` was not encoded.
    time = datetime.fromisoformat(text.replace(" ", "+"))
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
