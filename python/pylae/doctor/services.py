# SPDX-License-Identifier: Apache-2.0
"""Does a request of this Service get through, from the gateway to every server behind it?"""

from __future__ import annotations

import asyncio
import datetime
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from pylae.doctor import answering, budget, health, naming, reaching, securing
from pylae.doctor.aims import Aim, default_host_header
from pylae.doctor.answers import Answer
from pylae.doctor.authors import between
from pylae.doctor.budget import Given
from pylae.doctor.configured import Subject
from pylae.doctor.findings import Finding, Row
from pylae.doctor.idling import closes_after
from pylae.doctor.links import Place
from pylae.doctor.looks import Look, look
from pylae.doctor.names import Known, look_up
from pylae.doctor.reports import Report, merged
from pylae.doctor.resolution import Resolution
from pylae.explain.case import LOAD_BALANCERS
from pylae.explain.words import count, escaped, ms

MOST_PLACES: Final = 32
"""Addresses of one Service that are spoken to."""
AT_ONCE: Final = 64
"""Addresses that are spoken to at the same time, over all Services."""
SUGGESTIONS: Final = 3
TLS_PORTS: Final = (443, 8443)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every examination goes by.

    Attributes:
        patience_s: for each step of a probe.
        keepalive_s: how long the gateway keeps an idle connection; 0: for ever.
        tests_idleness: whether a connection is held idle until the server closes it.
    """

    admin_url: str
    resolution: Resolution
    bundles: tuple[str, ...] = ()
    patience_s: float = 5.0
    keepalive_s: float = 60.0
    given: Given = field(default_factory=Given)
    tests_idleness: bool = False
    upstream_names: Sequence[str] = ()
    gate: asyncio.Semaphore | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user wants to be sent; as it arrives at the upstream."""

    path: str | None = None
    host: str | None = None
    method: str = "HEAD"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


def aim_of(subject: Subject, tools: Tools, asked: Asked | None = None) -> Aim:
    """How the gateway would send a request of a Service."""
    service, asked = subject.service, asked or Asked()
    host = str(service.get("host") or "")
    aim = Aim(
        service=service,
        admin_url=tools.admin_url,
        host=host,
        host_header=asked.host or _preserved(subject.routes) or _own_header(subject.upstream),
        path=asked.path or str(service.get("path") or "/"),
        method=asked.method,
        headers=asked.headers,
        body=asked.body,
        verifies=bool(service.get("tls_verify")),
        bundles=tools.bundles,
        patience_s=tools.patience_s,
        keepalive_s=tools.keepalive_s,
        is_given=asked.path is not None,
    )
    if subject.upstream is not None or aim.host_header:
        return aim
    return replace(aim, host_header=default_host_header(host, _port(service), is_tls=aim.is_tls))


def _preserved(routes: Sequence[Row]) -> str:
    """What a client would have in Host, where every Route hands it on and says which."""
    if not routes or not all(route.get("preserve_host") for route in routes):
        return ""
    hosts = [host for route in routes for host in route.get("hosts") or [] if "*" not in host]
    return str(hosts[0]) if hosts else ""


def _own_header(upstream: Row | None) -> str:
    return str((upstream or {}).get("host_header") or "")


def _port(service: Row) -> int:
    port = service.get("port")
    return int(port) if isinstance(port, int) else 80


async def examine(subject: Subject, tools: Tools, asked: Asked | None = None) -> Report:
    """All checks of one Service, its names and addresses at the same time."""
    report = Report(f"Service {escaped(subject.title, 200)}")
    aim = aim_of(subject, tools, asked)
    hosts = _hosts(subject)
    known = await asyncio.gather(*(look_up(host, tools.resolution, tools.patience_s) for _, host, _ in hosts))
    spots = [
        (target, aim.for_host(host, port, _path(subject, target)), Place(one.ip, one.port or port))
        for (target, host, port), found in zip(hosts, known, strict=True)
        for one in found.found
    ]
    left_out, spots = len(spots) - MOST_PLACES, spots[:MOST_PLACES]
    looks = [] if aim.is_datagram else await asyncio.gather(*(_look(aim_there, place, tools) for _, aim_there, place in spots))
    report.places = [str(place) for _, _, place in spots]
    _routes(report, subject)
    _url(report, subject, aim, looks)
    _names(report, aim, known, tools)
    _tcp(report, aim, looks, left_out)
    _tls(report, aim, looks)
    _http(report, aim, looks)
    await _keep_alive(report, aim, looks, tools)
    _targets(report, subject, spots, looks, tools)
    _timeouts(report, aim, tools.given)
    report.findings = [finding.of(str(subject.service.get("name") or ""), subject.service) for finding in report.findings]
    return report


def _hosts(subject: Subject) -> list[tuple[str, str, int]]:
    """`target`, host and port of each Target that may be chosen; of the Service itself where there is no Upstream."""
    if subject.upstream is None:
        return [("", str(subject.service.get("host") or ""), _port(subject.service))]
    found = []
    for row in subject.targets:
        host, _, port = str(row.get("target") or "").rpartition(":")
        if (row.get("weight") or 0) > 0 and host and port.isdigit():
            found.append((str(row["target"]), host.strip("[]"), int(port)))
    return found


def _path(subject: Subject, target: str) -> str:
    return f"{subject.address_of_targets}/{quote(target, safe='')}" if target else ""


async def _look(aim: Aim, place: Place, tools: Tools) -> Look:
    if tools.gate is None:
        return await look(aim, place)
    async with tools.gate:
        return await look(aim, place)


# === the lines of the checklist ===


def _routes(report: Report, subject: Subject) -> None:
    names = [escaped(str(route.get("name") or route.get("id")), 60) for route in subject.routes]
    more = f" and {len(names) - SUGGESTIONS} more" if len(names) > SUGGESTIONS else ""
    if subject.service.get("enabled") is False:
        report.add("routes", "the Service is disabled (enabled: false): its Routes are not served", is_known=False)
    elif names:
        report.add("routes", f"{count(len(names), 'Route')}: {', '.join(names[:SUGGESTIONS])}{more}")
    else:
        report.add("routes", "no Route leads to it", is_known=False)


def _url(report: Report, subject: Subject, aim: Aim, looks: Sequence[Look]) -> None:
    service = subject.service
    port = _port(service)
    has_answered = any(isinstance(one.answer, Answer) or one.is_secured for one in looks)
    told = f"{aim.protocol}, {count(len(subject.targets), 'Target')}" if subject.upstream else f"{aim.protocol}, port {port}"
    found = []
    if not has_answered and looks and not subject.upstream:
        if not aim.is_tls and port in TLS_PORTS:
            found.append(_odd_port(aim, f"The Service says {aim.protocol} and port {port}, where TLS is usual.", "https"))
        if aim.is_tls and port in (80, 8080):
            found.append(_odd_port(aim, f"The Service says {aim.protocol} and port {port}, where plain HTTP is usual.", "http"))
    if any(letter in str(service.get("path") or "") for letter in "?#"):
        report.add("url", f"{told}; the path holds a query, which is sent as part of the path", found, is_known=False)
        return
    report.add("url", told, found)


def _odd_port(aim: Aim, summary: str, protocol: str) -> Finding:
    return Finding(
        hop="gateway",
        phase="connect",
        cause="protocol_mismatch" if protocol == "https" else "upstream_tls_failed",
        finding="unusual_port",
        summary=summary,
        confidence=0.4,
        is_broken=False,
        cure=(f"if the server speaks {protocol} there:", aim.patch(protocol=protocol)),
        probes=("the other findings of this Service",),
    )


def _names(report: Report, aim: Aim, known: Sequence[Known], tools: Tools) -> None:
    findings = []
    for one in known:
        for finding in naming.judge(one, aim, tools.resolution):
            near = difflib.get_close_matches(one.host, tools.upstream_names, SUGGESTIONS, 0.7)
            if finding.cause == "dns_failed" and finding.is_broken and near:
                told = f"there is no Upstream of that name either; the nearest: {', '.join(near)}"
                finding = replace(finding, evidence=(*finding.evidence, told))
            findings.append(finding)
    more = f"; {len(known) - SUGGESTIONS} more names" if len(known) > SUGGESTIONS else ""
    if known:
        report.add("names", "; ".join(dict.fromkeys(map(naming.told, known[:SUGGESTIONS]))) + more, findings)


def _tcp(report: Report, aim: Aim, looks: Sequence[Look], left_out: int) -> None:
    if not looks:
        if aim.is_datagram:
            report.add("tcp", "datagrams are not probed", is_known=False)
        return
    there = [one.connect_ms for one in looks if one.connect_ms is not None]
    slowest = f", the slowest in {ms(max(there))}" if there else ""
    more = f"; {left_out} more were not looked at" if left_out > 0 else ""
    findings = merged([finding for one in looks for finding in reaching.judge(one)])
    if 0 < len(there) < len(looks):
        findings = [
            replace(finding, evidence=(*finding.evidence, f"{len(there)} of {len(looks)} addresses are reached"))
            for finding in findings
        ]
    report.add("tcp", f"{len(there)} of {count(len(looks), 'address', 'addresses')} reached{slowest}{more}", findings)


def _tls(report: Report, aim: Aim, looks: Sequence[Look]) -> None:
    reached = [one for one in looks if one.connect_ms is not None]
    if not reached:
        return
    now = datetime.datetime.now(datetime.UTC)
    findings = merged([finding for one in reached for finding in securing.judge(one, now)])
    if not aim.is_tls:
        if findings or aim.speaks_http:
            is_spoken = any(finding.hop == "upstream" for finding in findings)
            report.add("tls", "TLS is spoken there" if is_spoken else "none, as the Service says", findings)
        return
    secured = [one.secured for one in reached if one.secured is not None and not one.secured.failure]
    text = f"{len(secured)} of {len(reached)} agreed"
    if secured:
        certificate = secured[0].certificate
        text += f" on {secured[0].version}"
        if certificate is not None:
            days = certificate.days_left(now)
            valid = f"valid for {days:.0f} days" if days >= 0 else f"expired {-days:.0f} days ago"
            text += f"; {certificate.subject}, {valid}, {'checked' if aim.verifies else 'not checked (tls_verify is off)'}"
    report.add("tls", text, findings)


def _http(report: Report, aim: Aim, looks: Sequence[Look]) -> None:
    asked = [one for one in looks if one.answer is not None]
    if not asked:
        if looks and not aim.speaks_http:
            report.add("http", f"{aim.protocol} is not probed beyond the connection", is_known=False)
        return
    found = merged([finding for one in asked for finding in answering.judge(one)])
    parts = []
    for one in asked[:SUGGESTIONS]:
        answer = one.answer
        if not isinstance(answer, Answer):
            parts.append(f"{one.place}: no answer")
            continue
        through = between(answer)
        name = through[0] if through else ""
        passed = f" through {LOAD_BALANCERS.get(name, name)}" if through else ""
        parts.append(f"{answer.status} in {ms(answer.took_ms)}{passed}")
    more = f" and {len(asked) - SUGGESTIONS} more" if len(asked) > SUGGESTIONS else ""
    has_answered = all(isinstance(one.answer, Answer) for one in asked)
    report.add("http", f"{asked[0].method} {aim.path}: {'; '.join(parts)}{more}", found, is_known=has_answered)


async def _keep_alive(report: Report, aim: Aim, looks: Sequence[Look], tools: Tools) -> None:
    answers = [(one, one.answer) for one in looks if isinstance(one.answer, Answer)]
    if not answers:
        return
    ours = "without end" if aim.keepalive_s == 0 else ms(aim.keepalive_s * 1000)
    first = answers[0][1]
    said = answering.said_idle_s(first)
    if not first.stays_open:
        report.add("keep-alive", "the server closes after each answer, and says so")
    elif said is not None:
        report.add("keep-alive", f"the server says that it keeps idle connections for {said} s, and the gateway goes by that")
    elif tools.tests_idleness:
        findings, words = await closes_after(answers[0][0], tools.keepalive_s)
        report.add("keep-alive", words, findings)
    else:
        report.add(
            "keep-alive",
            f"the server does not say how long; we keep connections for {ours}; --keepalive tests it",
            is_known=False,
        )


def _targets(
    report: Report, subject: Subject, spots: Sequence[tuple[str, Aim, Place]], looks: Sequence[Look], tools: Tools
) -> None:
    if subject.upstream is None:
        return
    by_target: dict[str, list[Look]] = {}
    for (target, _, _), one in zip(spots, looks, strict=False):
        by_target.setdefault(target, []).append(one)
    report.add("targets", health.told(subject), health.judge(subject, by_target, tools.admin_url))


def _timeouts(report: Report, aim: Aim, given: Given) -> None:
    findings = budget.judge(aim, given)
    table = budget.limits(aim, given)
    first = budget.first_to_fire(table)
    silent = f"when the server is silent the {first.name} gives up first, after {ms(first.once_ms)}" if first else "not known"
    is_known = given.first_lb_ms is not None or given.client_ms is not None
    hint = "" if is_known else "; --first-lb-timeout and --client-timeout say who waits before"
    report.add("timeouts", silent + hint, findings, is_known=is_known)
    report.drawing = budget.drawn(table)
