# SPDX-License-Identifier: Apache-2.0
"""Are plugins in a request's way, and which of them? A request that failed is walked through them again, without the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from pylae.doctor.configured import AdminApi
from pylae.doctor.findings import Finding, Row
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.routing import Routed
from pylae.explain.words import count, escaped
from pylae.settings import Settings

_IN_THE_WAY: Final = ("plugin_failed", "plugin_refused", "filter_failed")
_SHOWN: Final = 6


async def judge_request(
    report: Report,
    request: Request,
    routed: Routed,
    document: Row | None,
    status: int,
    api: AdminApi,
    settings: Settings,
    upstream_names: Sequence[str],
) -> None:
    """Notes whether the plugins that apply to a request make it fail.

    Args:
        report: takes the line.
        request: as a client would send it.
        routed: what the router says of it.
        document: what `/explain` says of it; None: nothing.
        status: that it was answered with by the gateway; 0: none.
        api: the Admin API.
        settings: of the gateway.
        upstream_names: of all Upstreams there are.
    """
    rows = await _rows(api, [*routed.plugins, *_list(document or {}, "plugins")])
    if not rows:
        report.add("plugins", "none applies" if routed.is_known else "not known which apply", is_known=routed.is_known)
        return
    names = _names(rows)
    verdict = _part(document or {}, "verdict")
    if not (verdict.get("hop") == "plugin" or verdict.get("cause") in _IN_THE_WAY or (document is None and status >= 500)):
        report.add("plugins", f"{names}: {'none' if status else 'not known whether any'} was in the way", is_known=bool(status))
        return
    consumer = await _consumer(api, document or {})
    # Loads the plugins' parts; only a request that failed needs them.
    from pylae.doctor.replay import asking, findings, process

    order = asking.order_of_request(
        request.method,
        request.path,
        rows,
        headers=request.headers,
        body=request.body,
        host=request.authority,
        scheme=request.scheme,
        consumer=consumer,
        credential_id=_text(_part(document or {}, "client").get("credential_id")),
        route=routed.route,
        service=routed.service,
        upstream_path=routed.upstream_path,
        upstream_names=upstream_names,
        plugin_path=settings.plugin_path,
    )
    replayed = await asyncio.to_thread(process.replay, order)
    found = findings.findings(order, replayed, admin_url=settings.admin_url)
    if found and verdict.get("finding") == "credential_missing" and all(one.cause == "plugin_refused" for one in found):
        # The gateway's verdict says what is wanted; that the plugin refuses who brings nothing is what it is for.
        words = "; ".join(escaped(finding.summary) for finding in found)
        report.add("plugins", f"{names}: {words}", is_known=False)
        return
    told = "; ".join(findings.left_out(replayed)[:_SHOWN]) or "run again, none is in the way"
    report.add("plugins", names if found else f"{names}: {told}", found, is_known=bool(found))


async def judge_record(report: Report, document: Row, api: AdminApi, settings: Settings) -> None:
    """Notes which plugins make a captured request fail.

    Args:
        report: takes the line.
        document: what `/explain` says of it.
        api: the Admin API.
        settings: of the gateway.
    """
    from pylae.doctor.replay import asking, findings, process

    rows = await _rows(api, _list(document, "plugins"))
    if not rows:
        report.add("plugins", "the request met none")
        return
    route = await api.get(f"/routes/{quote(str(_part(document, 'route').get('id') or ''), safe='')}")
    record = {**document, **_as_recorded(document), **({} if route is None else {"route": route})}
    try:
        order = asking.order_of_record(record, rows, consumer=await _consumer(api, document), plugin_path=settings.plugin_path)
    except asking.NotKept as error:
        report.add("plugins", f"{_names(rows)}: {error}", is_known=False)
        return
    replayed = await asyncio.to_thread(process.replay, order)
    is_current = document.get("is_config_current")
    found = findings.findings(
        order,
        replayed,
        record=record,
        admin_url=settings.admin_url,
        is_config_current=is_current if isinstance(is_current, bool) else None,
    )
    # Who the client is cannot be asked again without its secret; what such a plugin refused the gateway's verdict says.
    found = [finding for finding in found if not _is_of_assumed(finding)]
    left_out = findings.left_out(replayed)
    told = f"{_names(rows)}{'' if found or left_out else ': run again, none is in the way'}"
    report.add("plugins", "; ".join([told, *left_out[:_SHOWN]]), found, is_known=bool(found) or not left_out)


def _is_of_assumed(finding: Finding) -> bool:
    blamed = [plugin for plugin in finding.plugins if plugin.get("is_needed_to_fail")]
    is_only_recorded = finding.finding == "recorded_not_replayed" and bool(blamed)
    return is_only_recorded and all(plugin.get("replay") == "assumed" for plugin in blamed)


def _as_recorded(document: Row) -> dict[str, Any]:
    """What a record has and its explanation tells in another place."""
    verdict = _part(document, "verdict")
    steps = [step for step in _list(document, "plugins") if step.get("outcome") in ("answered", "failed")]
    return {"fault": verdict.get("cause"), "plugin": steps[-1].get("name") if steps else None}


async def _rows(api: AdminApi, named: Sequence[Row]) -> list[Row]:
    """Rows of `plugins` that are named by their id, each once, in that order."""
    wanted = list(dict.fromkeys(str(one["id"]) for one in named if one.get("id")))
    if not wanted:
        return []
    by_id = {str(row.get("id")): row for row in await api.rows("/plugins") or []}
    return [by_id[id_] for id_ in wanted if id_ in by_id]


async def _consumer(api: AdminApi, document: Row) -> Row | None:
    id_ = _text(_part(document, "client").get("consumer_id"))
    return await api.get(f"/consumers/{quote(id_, safe='')}") if id_ else None


def _names(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(str(row.get("name")) for row in rows))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{count(len(rows), 'plugin')} ({', '.join(names[:_SHOWN])}{more})"


def wraps_plugin(finding: Finding) -> bool:
    """Whether a verdict says that a plugin is in the way."""
    return finding.hop == "plugin" or finding.cause in _IN_THE_WAY


def _part(row: Row, name: str) -> Mapping[str, Any]:
    part = row.get(name)
    return part if isinstance(part, Mapping) else {}


def _list(row: Row, name: str) -> list[Row]:
    found = row.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
