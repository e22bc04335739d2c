# SPDX-License-Identifier: Apache-2.0
"""What does one whole look find, for a URL, for a Service, or for everything?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pylae.doctor import hops, plugins, routing, through, warned
from pylae.doctor.answers import Header
from pylae.doctor.budget import Given
from pylae.doctor.configured import AdminApi, Ask, CannotLook, Configured, Subject, read
from pylae.doctor.findings import Finding, worst_first
from pylae.doctor.margins import judge_headers
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.resolution import resolution_of
from pylae.doctor.services import AT_ONCE, Asked, Tools, examine
from pylae.settings import Settings, parse_size

DOUBTED: Final = 0.6
_REFUSED: Final = 400
_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a user wants to know.

    Attributes:
        request: a request as a client would send it; None: Services are looked at.
        request_id: of a request whose record the gateway keeps.
        service: name or id; None: every one.
        probe_key: what probes are marked with; None: they are not.
        follows_hops: whether a marked probe is sent to the URL.
    """

    request: Request | None = None
    request_id: str | None = None
    service: str | None = None
    method: str = ""
    headers: Sequence[Header] = ()
    body: bytes = b""
    patience_s: float = 5.0
    given: Given = field(default_factory=Given)
    probe_key: bytes | None = None
    follows_hops: bool = False
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
    if order.request_id is not None:
        return await _of_record(order.request_id, settings, api, tools)
    configured = await read(api, order.service)
    tools = replace(tools, upstream_names=configured.upstream_names)
    is_own = bool(order.method or order.headers or order.body)
    asked = Asked(None, None, order.method or ("POST" if order.body else "HEAD"), order.headers, order.body) if is_own else None
    reports = list(await asyncio.gather(*(examine(subject, tools, asked) for subject in configured.subjects)))
    if len(reports) > 1:
        for report in reports:
            report.drawing = []  # the findings have the times
    reports.append(_warnings(configured, reports, is_everything=order.service is None))
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
    routed = await routing.find_route(api, request, report, tools.admin_url)
    id_ = (routed.service or {}).get("id")
    configured = await read(api, str(id_)) if id_ else await read(api, None, has_services=False)
    tools = replace(tools, upstream_names=configured.upstream_names)
    judge_headers(report, request, _buffers(settings))
    subject = next(iter(configured.subjects), None)
    path, query = routed.upstream_path, request.query
    asked = Asked(
        path=f"{path}?{query}" if path and query is not None else path,
        host=request.authority if _keeps_host(subject, routed) else None,
        headers=request.sent_on(),
    )
    works: list[Coroutine[Any, Any, Report]] = []
    if subject is not None:
        works.append(examine(subject, tools, asked))
    if order.follows_hops and order.probe_key is not None:
        works.append(hops.follow(api, request, order.probe_key, tools.resolution, tools.patience_s))
    own = _through_gateway(report, request, order, settings, api, routed, tools.upstream_names)
    walked, *others = await asyncio.gather(own, *works)
    reports = [report, *others]
    if subject is not None and walked is not None and walked.status >= _REFUSED:
        # What a client gets was seen; of a Service alone it is told by the cause.
        service = others[0]
        service.findings = [replace(one, status=walked.status) if one.is_broken else one for one in service.findings]
    if walked is None or walked.document is None:
        # To what stands before it a gateway that takes no requests looks the same, and here one that keeps no records.
        for one in reports[1:]:
            one.findings = [_doubted(finding) if finding.hop == "first_lb" else finding for finding in one.findings]
    for one in reports[1:]:
        one.findings = [replace(finding, route=finding.route or routed.route) for finding in one.findings]
    reports.append(_warnings(configured, others))
    return Examination(reports)


def _keeps_host(subject: Subject | None, routed: routing.Routed) -> bool:
    id_ = (routed.route or {}).get("id")
    routes = subject.routes if subject is not None else ()
    return any(route.get("id") == id_ and route.get("preserve_host") for route in routes)


async def _through_gateway(
    report: Report,
    request: Request,
    order: Order,
    settings: Settings,
    api: AdminApi,
    routed: routing.Routed,
    upstream_names: Sequence[str],
) -> through.Walked | None:
    """What came of the request, sent to the gateway itself; None: it has no address for such a one."""
    listener = through.listener_for(settings.listeners("proxy"), request.scheme)
    if listener is None:
        report.add("gateway", f"proxy_listen has no address for {request.scheme}", is_known=False)
        return None
    walked = await through.walk(api, listener, request, order.patience_s, order.probe_key, is_looked_up=order.follows_hops)
    through.judge(report, walked, listener[0], request)
    before = list(report.findings)
    await plugins.judge_request(report, request, routed, walked.document, walked.status, api, settings, upstream_names)
    replayed = [finding for finding in report.findings if finding not in before]
    if replayed:
        # They name the plugins that it takes, which the one request that was sent cannot.
        of_sent = [finding for finding in before if finding.request_id is None or not plugins.wraps_plugin(finding)]
        report.findings = [*of_sent, *(replace(finding, request_id=walked.request_id) for finding in replayed)]
    return walked


def _doubted(finding: Finding) -> Finding:
    return replace(finding, confidence=min(finding.confidence, DOUBTED))


async def _of_record(request_id: str, settings: Settings, api: AdminApi, tools: Tools) -> Examination:
    """A request that failed before: what is known of it, its plugins, and its Service as it is now."""
    document = await api.get(f"/explain/{request_id}")
    if document is None:
        raise CannotLook(f"no record of request `{request_id}`; hint: GET /explain lists those that are kept")
    report = Report(f"Request {request_id}")
    finding = through.finding_of(document)
    if finding is None:
        report.add("explain", "nothing failed")
    else:
        report.add("explain", finding.summary, [finding])
    await plugins.judge_record(report, document, api, settings)
    service = document.get("service")
    id_ = service.get("id") if isinstance(service, dict) else None
    configured = Configured() if not id_ else await read(api, str(id_))
    tools = replace(tools, upstream_names=configured.upstream_names)
    examined = await asyncio.gather(*(examine(subject, tools) for subject in configured.subjects))
    return Examination([report, *examined, _warnings(configured, examined)])


def _buffers(settings: Settings) -> tuple[int, int]:
    count, size = settings.nginx_http_large_client_header_buffers.split()
    return int(count), parse_size(size)


def _warnings(configured: Configured, reports: Sequence[Report], *, is_everything: bool = False) -> Report:
    """What the gateway noticed of the Services that were looked at; their reports come first, in the same order."""
    report = Report("Warnings of the gateway")
    if configured.warnings is None:
        report.add("warnings", "this gateway gives none", is_known=False)
        return report
    places = {str(subject.service.get("id")): one.places for subject, one in zip(configured.subjects, reports, strict=False)}
    findings = warned.judge(configured.warnings, configured.subjects, places, is_everything=is_everything)
    report.add("warnings", f"{len(findings)} of {len(configured.warnings)} are about what was looked at", findings)
    return report
