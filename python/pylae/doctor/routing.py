# SPDX-License-Identifier: Apache-2.0
"""Which Route does a request meet, and why, or why none?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from pylae.doctor.configured import AdminApi
from pylae.doctor.findings import Finding, Row
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.resolution import is_address
from pylae.explain import calls
from pylae.explain.words import escaped, quoted

PATH: Final = "/explain/route"
_NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class Routed:
    """What the router says of a request."""

    route: Row | None = None
    service: Row | None = None
    plugins: Sequence[Row] = ()
    upstream_path: str | None = None
    is_known: bool = False


async def find_route(api: AdminApi, request: Request, report: Report, admin_url: str) -> Routed:
    """Asks the router; notes what it says in the report."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name, []).append(value)
    described: dict[str, Any] = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.authority,
        "path": request.bare_path,
        "headers": headers,
    }
    if request.query is not None:
        described["query"] = request.query
    if request.scheme == "https":
        described["sni"] = None if is_address(request.host) else request.host
    status, told = await api.call("POST", PATH, described)
    if status != 200:
        report.add("route", f"the router does not tell: {told.get('message') or status}", is_known=False)
        return Routed()
    route, service = _mapping(told.get("route")), _mapping(told.get("service"))
    unknown = [str(reason) for reason in _list(told.get("unknown"))]
    doubt = f"; it may be otherwise: {'; '.join(unknown[:_NEAREST])}" if unknown else ""
    if route is None:
        report.add(
            "route", f"no Route matches {request.method} {request.url}{doubt}", [_no_route(request, told, unknown, admin_url)]
        )
        return Routed(is_known=True)
    why = ", ".join(f"{one.get('condition')} {one.get('value')}" for one in _rows(route.get("why")))
    name = escaped(str(route.get("name") or route.get("id")), 80)
    text = f"{name}{f' by {why}' if why else ''}{doubt}"
    report.add("route", text, _refusal(told, route, admin_url), is_known=not unknown)
    return Routed(route, service, _rows(told.get("plugins")), told.get("upstream_path") or None, is_known=True)


def _no_route(request: Request, told: Mapping[str, Any], unknown: Sequence[str], admin_url: str) -> Finding:
    nearest = _rows(told.get("nearest"))
    evidence = [f"asked for {request.method} {request.url}"]
    for near in nearest[:_NEAREST]:
        failed = "; ".join(
            f"{one.get('condition')}: wanted {_short(one.get('wanted'))}, got {_short(one.get('got'))}"
            for one in _rows(near.get("failed"))
        )
        evidence.append(f"Route {quoted(str(near.get('name') or near.get('id')))} does not match: {failed or 'not told'}")
    cure = [calls.admin(admin_url, "GET", f"/routes/{quote(str(near.get('id')), safe='')}") for near in nearest[:1]]
    return Finding(
        hop="gateway",
        phase="route",
        cause="no_route",
        finding="no_route",
        summary=f"No Route matches {request.method} {quoted(request.url)}.",
        confidence=0.95 if not unknown else 0.6,
        subject=request.url,
        evidence=(*evidence, *unknown[:_NEAREST]),
        cure=("change the request, or one of these Routes:" if nearest else "make a Route for it:", *cure)
        if nearest
        else (calls.admin(admin_url, "POST", "/services/SERVICE/routes", **{"paths[]": request.bare_path}),),
        probes=() if not unknown else ("give the headers that the client sends with -H",),
    )


def _refusal(told: Mapping[str, Any], route: Row, admin_url: str) -> list[Finding]:
    """What the gateway answers by itself to whoever meets the Route."""
    fault = str(told.get("fault") or "")
    path = f"/routes/{quote(str(route.get('id')), safe='')}"
    if fault == "https_required":
        summary, cure = "The Route is for https alone.", calls.admin(admin_url, "PATCH", path, **{"protocols[]": "http"})
        evidence = "the request comes over http"
    elif fault == "no_service":
        summary, cure = "The Route has no Service.", calls.admin(admin_url, "PATCH", path, service__id="SERVICE-ID")
        evidence = "unless a plugin answers, nobody does"
    else:
        return []
    return [
        Finding(
            hop="client" if fault == "https_required" else "gateway",
            phase="route",
            cause=fault,
            finding=fault,
            summary=summary,
            confidence=0.95,
            status=told.get("status") if isinstance(told.get("status"), int) else None,
            route=route,
            evidence=(evidence,),
            cure=(cure,),
        )
    ]


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value[:6])) + (" …" if len(value) > 6 else "")
    return "nothing" if value is None else str(value)


def _mapping(value: object) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _rows(value: object) -> list[Row]:
    return [one for one in _list(value) if isinstance(one, Mapping)]
