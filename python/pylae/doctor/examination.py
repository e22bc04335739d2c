# SPDX-License-Identifier: Apache-2.0
"""What does one whole look find, for a URL, for a Service, or for everything?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pylae.doctor import hops, routing, through, warned
from pylae.doctor.answers import Header
from pylae.doctor.budget import Given
from pylae.doctor.configured import AdminApi, Ask, Configured, Subject, read
from pylae.doctor.findings import Finding, worst_first
from pylae.doctor.margins import judge_headers
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.resolution import resolution_of
from pylae.doctor.services import AT_ONCE, Asked, Tools, examine
from pylae.settings import Settings, parse_size

_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a user wants to know.

    Attributes:
        request: a request as a client would send it; None: Services are looked at.
        service: name or id; None: every one.
        probe_key: what marked probes are signed with; None: none is sent.
    """

    request: Request | None = None
    service: str | None = None
    method: str = ""
    headers: Sequence[Header] = ()
    body: bytes = b""
    patience_s: float = 5.0
    given: Given = field(default_factory=Given)
    probe_key: bytes | None = None
    tests_idleness: bool = False


@dataclass(slots=True)
class Examination:
    """What was found."""

    reports: list[Report]

    @property
    def findings(self) -> list[Finding]:
        """Everything, worst first."""
        return worst_first(finding for report in self.reports for finding in report.findings)


async def examine_all(order: Order, settings: Settings, ask: Ask) -> Examination:
    """One look at all that an order names.

    Raises:
        PylaeError: the Admin API does not answer, or does not know what is to be looked at.
    """
    api = AdminApi(ask)
    tools = tools_of(order, settings)
    if order.request is not None:
        return await _of_request(order.request, order, settings, api, tools)
    configured = await read(api, order.service)
    tools = replace(tools, upstream_names=configured.upstream_names)
    is_own = bool(order.method or order.headers or order.body)
    asked = Asked(None, None, order.method or ("POST" if order.body else "HEAD"), order.headers, order.body) if is_own else None
    reports = list(await asyncio.gather(*(examine(subject, tools, asked) for subject in configured.subjects)))
    if len(reports) > 1:
        for report in reports:
            report.drawing = []  # the findings have the times
    reports.append(_warnings(configured, configured.subjects))
    return Examination(reports)


def tools_of(order: Order, settings: Settings) -> Tools:
    """What the probes go by."""
    return Tools(
        admin_url=settings.admin_url,
        resolution=resolution_of(settings),
        bundles=_bundles(settings),
        patience_s=order.patience_s,
        keepalive_s=float(settings.upstream_keepalive_idle_timeout),
        given=order.given,
        tests_idleness=order.tests_idleness,
        gate=asyncio.Semaphore(AT_ONCE),
    )


def _bundles(settings: Settings) -> tuple[str, ...]:
    """What workers trust; files that are not there say nothing, as there."""
    system = next((path for path in _SYSTEM_BUNDLES if Path(path).is_file()), "")
    named = [system if name == "system" else name for name in settings.lua_ssl_trusted_certificate]
    return tuple(path for path in named if path and Path(path).is_file())


async def _of_request(request: Request, order: Order, settings: Settings, api: AdminApi, tools: Tools) -> Examination:
    """Route, the gateway itself, the Service that it leads to, the hops before."""
    report = Report(f"Request {request.method} {request.url}")
    routed, configured = await asyncio.gather(routing.find_route(api, request, report, tools.admin_url), read(api))
    tools = replace(tools, upstream_names=configured.upstream_names)
    judge_headers(report, request, _buffers(settings))
    subject = _subject(configured, routed.service)
    asked = Asked(
        path=routed.upstream_path,
        host=request.authority if _keeps_host(subject, routed) else None,
        headers=request.sent_on(),
    )
    works: list[Coroutine[Any, Any, Report]] = []
    if subject is not None:
        works.append(examine(subject, tools, asked))
    if order.probe_key is not None:
        works.append(hops.follow(api, request, order.probe_key, tools.resolution, tools.patience_s))
    _, *others = await asyncio.gather(_through_gateway(report, request, order, settings, api), *works)
    reports = [report, *(one for one in others if one is not None)]
    for one in reports[1:]:
        one.findings = [replace(finding, route=finding.route or routed.route) for finding in one.findings]
    reports.append(_warnings(configured, [subject] if subject is not None else []))
    return Examination(reports)


def _subject(configured: Configured, service: object) -> Subject | None:
    id_ = service.get("id") if isinstance(service, dict) else None
    return next((subject for subject in configured.subjects if id_ and subject.service.get("id") == id_), None)


def _keeps_host(subject: Subject | None, routed: routing.Routed) -> bool:
    id_ = (routed.route or {}).get("id")
    routes = subject.routes if subject is not None else ()
    return any(route.get("id") == id_ and route.get("preserve_host") for route in routes)


async def _through_gateway(report: Report, request: Request, order: Order, settings: Settings, api: AdminApi) -> None:
    place = through.listener_for(settings.listeners("proxy"), request.scheme)
    if place is None:
        report.add("gateway", f"proxy_listen has no address for {request.scheme}", is_known=False)
        return
    through.judge(report, await through.walk(api, place, request, order.patience_s), place, request)


def _buffers(settings: Settings) -> tuple[int, int]:
    count, size = settings.nginx_http_large_client_header_buffers.split()
    return int(count), parse_size(size)


def _warnings(configured: Configured, subjects: Sequence[Subject]) -> Report:
    report = Report("Warnings of the gateway")
    if configured.warnings is None:
        report.add("warnings", "this gateway gives none", is_known=False)
        return report
    findings = warned.judge(configured.warnings, subjects)
    report.add("warnings", f"{len(findings)} of {len(configured.warnings)} are about what was looked at", findings)
    return report
