# SPDX-License-Identifier: Apache-2.0
"""What do the workers know of names, and how old is it?

Beyond Kong's endpoints, but for `/status/dns`. Every age is in seconds from now, so that nobody has to compare clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, message, not_found
from pylae.admin.crud import Handlers, paged, parameter
from pylae.admin.queries import page_size
from pylae.control.dns import Dns, Heard, Known, normal
from pylae.database.paging import key_before, offset_after
from pylae.errors import InvalidOptions

PATH: Final = "/dns"
PATHS: Final = (PATH, f"{PATH}/{{name}}", "/status/dns")
ANY: Final = "*"
"""At the end of a name: all that begin so."""
_MS: Final = 1000.0
_DECIMALS: Final = 3


def endpoints(dns: Dns, worker_count: int, *, is_new_client: bool) -> dict[str, Handlers]:
    """Handlers by path, of the Admin and of the Status API.

    Args:
        dns: what workers reported.
        worker_count: as the settings have it.
        is_new_client: whether the setting `new_dns_client` is on; Kong counts only then.
    """

    async def list_names(request: Request) -> Response:
        query = request.query_params
        size, offset, wanted = page_size(query), query.get("offset"), query.get("name")
        if wanted == "":
            raise InvalidOptions({"name": "cannot be empty"})
        after = "" if offset is None else key_before(offset)[0]
        # One more than asked for tells whether there is another page.
        rows = list(islice(_found(dns, wanted, after), size + 1))
        next_offset = offset_after(rows[size - 1].name) if len(rows) > size else None
        now_s = dns.now_s()
        return paged([shown(known, now_s) for known in rows[:size]], PATH, next_offset, query, ("name", "size"))

    async def get_name(request: Request) -> Response:
        known = dns.known(parameter(request, "name"))
        return not_found() if known is None else answer(200, shown(known, dns.now_s(), is_whole=True))

    async def count(request: Request) -> Response:
        del request
        if not is_new_client:
            return message(501, "not implemented with the legacy DNS client")
        stats = {f"{known.name}|{known.newest.report.kind}": _counts(known) for known in dns.every()}
        # Whoever answers is no worker; the counts are of all of them.
        return answer(200, {"worker": {"id": 0, "count": worker_count}, "stats": stats})

    return {path: {"GET": get} for path, get in zip(PATHS, (list_names, get_name, count), strict=True)}


def _found(dns: Dns, wanted: str | None, after: str) -> Iterator[Known]:
    if wanted is None:
        return dns.every(after)
    if wanted.endswith(ANY):
        beginning = normal(wanted[:-1])
        return (known for known in dns.every(after) if known.name.startswith(beginning))
    known = dns.known(wanted)
    return iter([] if known is None or known.name <= after else [known])


def shown(known: Known, now_s: float, *, is_whole: bool = False) -> dict[str, Any]:
    """What is known of a name, and when each worker learned it.

    Args:
        known: of the name.
        now_s: the time of the epoch.
        is_whole: with the records of each worker, which may differ.
    """
    report = known.newest.report
    return {
        "name": known.name,
        "kind": report.kind,
        **of_answer(known.newest, now_s),
        "server": report.server,
        "tried": report.tried,
        "took_ms": report.took_ms,
        "workers": [_of_worker(heard, now_s, is_whole=is_whole) for heard in known.heard],
    }


def _of_worker(heard: Heard, now_s: float, *, is_whole: bool) -> dict[str, Any]:
    worker = heard.worker
    found = {
        "index": worker.index,
        "generation": worker.generation,
        "pid": worker.pid,
        "reported_age_s": _rounded(now_s - heard.heard_s),
        **of_answer(heard, now_s),
    }
    if not is_whole:
        del found["records"]
    return found


def of_answer(heard: Heard, now_s: float) -> dict[str, Any]:
    """An answer with its age."""
    report = heard.report
    state = heard.state(now_s)
    is_stale = state in ("stale", "expired")
    return {
        "state": state,
        "records": [
            {"address": record.address, "port": record.port, "weight": record.weight, "name": record.name}
            for record in report.records
        ],
        "ttl_s": report.ttl_s,
        "age_s": _since(report.found_ms, now_s),
        "expires_in_s": _until(report.expires_ms, now_s),
        "usable_for_s": _until(report.stale_until_ms, now_s) if report.records else None,
        "is_stale": is_stale,
        "stale_for_s": _rounded(heard.stale_for_s(now_s)) if is_stale else 0,
        "error": report.error,
    }


def _counts(known: Known) -> dict[str, int]:
    """By Kong's names; what answered from its cache no worker reports."""
    query_count = sum(heard.query_count for heard in known.heard)
    failure_count = sum(heard.failure_count for heard in known.heard)
    return {
        "query": query_count,
        "query_succ": query_count - failure_count,
        "query_fail": failure_count,
        "stale": sum(heard.stale_count for heard in known.heard),
    }


def _since(time_ms: float | None, now_s: float) -> float | None:
    return None if time_ms is None else _rounded(max(now_s - time_ms / _MS, 0))


def _until(time_ms: float | None, now_s: float) -> float | None:
    """Below zero once it is over."""
    return None if time_ms is None else _rounded(time_ms / _MS - now_s)


def _rounded(seconds: float) -> float:
    return round(seconds, _DECIMALS)
