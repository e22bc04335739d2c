# SPDX-License-Identifier: Apache-2.0
"""Which hops does a request really pass? A marked one is sent to the URL, as a client would, and looked for at the gateway."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from pylae.doctor import handshakes, marks
from pylae.doctor.answers import Answer, NoAnswer, Question, ask
from pylae.doctor.authors import author_of, between
from pylae.doctor.configured import AdminApi
from pylae.doctor.findings import Finding
from pylae.doctor.handshakes import Shown
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded, Place
from pylae.doctor.names import look_up
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.resolution import Resolution
from pylae.doctor.through import as_told, broke_in_body, finding_of, unexplained
from pylae.doctor.waiting import still_waiting
from pylae.explain.case import LOAD_BALANCERS
from pylae.explain.words import count, escaped, ms, quoted

_BY_STATUS: Final = {502: "bad_gateway_behind", 503: "unavailable_behind", 504: "timeout_behind", 404: "no_route"}
_BY_END: Final = {"refused": "connect_refused", "timeout": "connect_timeout", "unreachable": "connect_failed", "rst": "reset"}
_BROKEN: Final = 500
_TIMED_OUT: Final = 504
_OURS: Final = ("pylae", "kong")


@dataclass(slots=True)
class Sent:
    """What the client's end saw.

    Attributes:
        place: where the URL leads; None: nowhere.
        phase_failed: `resolve`, `connect`, `client_tls`; None: a request was sent.
    """

    place: Place | None = None
    local_ip: str = ""
    local: str = ""
    answer: Answer | NoAnswer | None = None
    failed: str | None = None
    detail: str = ""
    certificate: Shown | None = None
    took_ms: float = 0.0


async def follow(
    api: AdminApi, request: Request, key: bytes, resolution: Resolution, patience_s: float, now_s: float | None = None
) -> Report:
    """Sends the probe, asks the gateway whether it came, and says who saw it."""
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        request = replace(request, method="GET", body=b"")
    mark = marks.mark(key, request.method, request.bare_path, time.time() if now_s is None else now_s)
    report = Report(f"Marked probe {mark.nonce}  {escaped(request.url, 200)}")
    sent = await _send(request, mark, resolution, patience_s)
    document = await _by_id(api, _id_of(sent))
    row = await marks.seen(api.call, mark.nonce) if sent.failed is None and document is None else None
    if document is None:
        # A request that was refused before its headers were read has no mark; its answer tells the id.
        document = await _by_id(api, str(row.get("request_id")) if row is not None else _id_of(sent))
    _client(report, request, sent)
    if document is None:
        _not_seen(report, request, sent, row)
    else:
        _seen_by_all(report, request, sent, document)
    report.findings = [finding.of(request.url, None) for finding in report.findings]
    return report


def _id_of(sent: Sent) -> str | None:
    return sent.answer.header("x-kong-request-id") if isinstance(sent.answer, Answer) else None


async def _by_id(api: AdminApi, request_id: str | None) -> Mapping[str, Any] | None:
    if not request_id:
        return None
    status, document = await api.call("GET", f"/explain/{quote(request_id[:64], safe='')}")
    return document if status == 200 else None


async def _send(request: Request, mark: marks.Mark, resolution: Resolution, patience_s: float) -> Sent:
    sent, started_s = Sent(), time.monotonic()
    known = await look_up(request.host, resolution, patience_s)
    if not known.found:
        sent.failed, sent.detail = "resolve", "the name has no address"
        return sent
    sent.place = Place(known.found[0].ip, request.port)
    headers = [*request.headers, (marks.HEADER, mark.value), ("Cache-Control", "no-cache")]
    try:
        with await Link.connect(sent.place, patience_s) as link:
            sent.local_ip, sent.local, sent.failed = link.local.ip, str(link.local), None
            if request.scheme == "https":
                await link.start_tls(handshakes.context(), request.host)
                tls = link.tls
                sent.certificate = handshakes.shown(tls.getpeercert(binary_form=True)) if tls is not None else None
            link.extend(patience_s)
            sent.answer = await ask(link, Question(request.method, request.path, request.authority, headers))
    except LinkEnded as ended:
        sent.failed, sent.detail = ("client_tls" if sent.local_ip else "connect"), f"{ended.how} {ended.detail}".strip()
    except (HandshakeFailed, ValueError) as error:
        sent.failed, sent.detail = "client_tls", str(error)
    sent.took_ms = (time.monotonic() - started_s) * 1000
    return sent


# === the client's end ===


def _client(report: Report, request: Request, sent: Sent) -> None:
    if sent.failed is not None or isinstance(sent.answer, NoAnswer):
        return  # _not_seen and _seen_by_all say it
    report.add(
        "client",
        f"sent {request.method} {request.path} to {sent.place}, and has an answer in {ms(sent.took_ms)}",
        _own(request, sent),
    )


def _own(request: Request, sent: Sent) -> list[Finding]:
    """What is wrong with the certificate that clients are shown."""
    certificate, now = sent.certificate, datetime.datetime.now(datetime.UTC)
    if certificate is None:
        return []
    has_expired, is_other = certificate.days_left(now) < 0, not certificate.covers(request.host)
    if not has_expired and not is_other:
        return []
    what = "has expired" if has_expired else f"is not for {quoted(request.host)}"
    return [
        Finding(
            hop="first_lb",
            phase="client_tls",
            cause="client_tls_failed",
            finding="own_certificate_expired" if has_expired else "own_certificate_wrong_name",
            summary=f"The certificate that clients are shown at {sent.place} {what}.",
            confidence=0.9,
            evidence=(
                f"it is {quoted(certificate.subject)}, for {handshakes.names_shown(certificate.names)}, "
                f"valid until {certificate.not_after:%Y-%m-%d}",
            ),
            cure=(f"have {sent.place} show a certificate that is valid for {quoted(request.host)}",),
        )
    ]


# === the gateway did not see it ===


def _not_seen(report: Report, request: Request, sent: Sent, row: Mapping[str, Any] | None) -> None:
    if row is not None:
        report.add("gateway", "saw it, and does not tell more", is_known=False)
        return
    answer = sent.answer
    if sent.failed is not None:
        cause = {"resolve": "dns_failed", "client_tls": "client_tls_failed"}.get(
            sent.failed, _BY_END.get(sent.detail.split(" ")[0], "connect_failed")
        )
        where = sent.place or request.host
        finding = _before(
            cause,
            f"not_reached_{sent.failed}",
            f"A client does not get to {where}: {sent.detail}.",
            0.85 if sent.failed == "resolve" else 0.7,
            [f"{sent.failed}: {sent.detail}"],
            hop="dns" if sent.failed == "resolve" else "first_lb",
        )
        report.add("client", f"no request could be sent to {where}", [finding])
        report.add("gateway", "could not see it", is_known=False)
        return
    if isinstance(answer, NoAnswer) or answer is None:
        how = answer.how if answer is not None else "nothing"
        cause = {"rst": "reset", "timeout": "read_timeout"}.get(how, "closed_before_headers")
        finding = _before(
            cause,
            "lost_before_gateway",
            f"{sent.place} took the request, gave no answer ({how}), and the gateway did not see it.",
            # What still waits for the gateway has no record yet.
            0.3 if how == "timeout" else 0.6,
            [f"the gateway has no record of the probe {marks.SEEN_WITHIN_S:g} s later"],
        )
        report.add("client", f"sent {request.method} {request.path} to {sent.place}: no answer ({how})")
        report.add("first_lb", "took it, and did not pass it on to this gateway", [finding])
        report.add("gateway", "did not see it")
        return
    passed = between(answer)
    if (passed is not None and passed[0] in _OURS) or answer.header("x-kong-request-id"):
        report.add(
            "gateway", "another gateway answered, or this one with other records: this node did not see it", is_known=False
        )
        return
    author = author_of(answer)
    name = author.name if author.name in LOAD_BALANCERS else passed[0] if passed else ""
    who = LOAD_BALANCERS.get(name, "something")
    if answer.status < 400:
        report.add("first_lb", f"{who} answered {answer.status} by itself, or from a cache", is_known=False)
        report.add("gateway", "did not see it", is_known=False)
        return
    finding = _before(
        _BY_STATUS.get(answer.status, "no_route"),
        "answered_before_gateway",
        f"{who} at {sent.place} answered {answer.status} itself; the request did not reach the gateway.",
        # What still waits for the gateway has no record yet.
        0.85 if name and answer.status != _TIMED_OUT else 0.5,
        [
            f"the gateway has no record of the probe {marks.SEEN_WITHIN_S:g} s later",
            *([f"written by {who}: {author.mark or (passed[1] if passed else '')}"] if name else []),
        ],
        written_by=name or author.name,
        status=answer.status,
    )
    report.add("first_lb", f"{who} answered {answer.status} itself", [finding])
    report.add("gateway", "did not see it")


def _before(
    cause: str,
    finding: str,
    summary: str,
    confidence: float,
    evidence: list[str],
    *,
    hop: Any = "first_lb",
    written_by: str | None = None,
    status: int | None = None,
) -> Finding:
    return Finding(
        hop=hop,
        phase="accept",
        cause=cause,
        finding=finding,
        summary=summary,
        confidence=confidence,
        evidence=tuple(evidence),
        cure=(
            "check the address and the health check that the first load balancer has of the gateway",
            "and whether this node is one of those it may choose",
        ),
        probes=() if confidence >= 0.8 else ("the log of the first load balancer at this second",),
        written_by=written_by,
        status=status,
    )


# === the gateway saw it ===


def _seen_by_all(report: Report, request: Request, sent: Sent, document: Mapping[str, Any]) -> None:
    client, answer, status = _part(document, "client"), sent.answer, document.get("status")
    peer, via = str(client.get("peer") or "?"), str(client.get("via") or "")
    forwarded = client.get("forwarded_for_count") or 0
    replaced = _replaced(sent, document)
    if peer in (sent.local_ip, sent.local):
        report.add("first_lb", "there is none: the gateway was reached directly")
    else:
        told = [f"{peer} passed it on"]
        told += [f"Via: {via}"] if via else []
        told += [f"X-Forwarded-For with {count(int(forwarded), 'address', 'addresses')}"] if forwarded else []
        if forwarded and client.get("is_trusted") is False:
            told.append("it is not in trusted_ips, so what it says of the client is not believed")
        report.add("first_lb", "; ".join(told), replaced)
    verdict = finding_of(document)
    if isinstance(answer, NoAnswer) and answer.how == "timeout":
        verdict = still_waiting(document, answer.took_ms) or verdict
    elif verdict is None and isinstance(answer, Answer) and answer.status >= _BROKEN and not replaced:
        verdict = unexplained(answer, document)
    elif replaced and verdict is not None and verdict.hop in ("client", "first_lb"):
        verdict = None  # it is said already, with what the client's end saw
    route = _part(document, "route")
    name = route.get("name") or route.get("id")
    text = f"saw it as {document.get('request_id')}, answered {status}, {f'Route {name}' if name else 'no Route'}"
    if verdict is not None and isinstance(answer, Answer):
        verdict = as_told(verdict, answer.status, request)
    by_us = [verdict] if verdict is not None and verdict.hop in ("client", "first_lb", "gateway", "plugin") else []
    report.add("gateway", text, by_us)
    _behind(report, document, [verdict] if verdict is not None and not by_us else [])
    if isinstance(answer, NoAnswer) and answer.how != "timeout":
        report.add("client", f"no answer from {sent.place} ({answer.how})", _lost(sent, document))


def _lost(sent: Sent, document: Mapping[str, Any]) -> list[Finding]:
    """The gateway answered well, and the client has nothing of it."""
    status = document.get("status")
    if not isinstance(status, int) or status >= _BROKEN or not isinstance(sent.answer, NoAnswer) or broke_in_body(document):
        return []
    cause = {"rst": "reset", "fin": "closed_before_headers"}.get(sent.answer.how, "bad_response")
    return [
        Finding(
            hop="first_lb",
            phase="send_answer",
            cause=cause,
            finding="answer_lost_before_client",
            summary=f"The gateway answered {status}, and {sent.place} closed without handing it on.",
            confidence=0.75,
            request_id=document.get("request_id"),
            evidence=(f"the client's end saw: {sent.answer.how}", f"the gateway's record of the probe says {status}"),
            cure=("look into the log of the first load balancer at this second: a crash, or a limit on what it takes",),
            probes=("the log of the first load balancer at this second",),
        )
    ]


def _behind(report: Report, document: Mapping[str, Any], findings: list[Finding]) -> None:
    attempts = [one for one in document.get("attempts") or [] if isinstance(one, Mapping)]
    if not attempts:
        report.add("upstream", "was not asked", findings, is_known=False)
        return
    for one in attempts[:-1]:
        report.add("attempt", f"{one.get('address')}: {one.get('fault') or one.get('status')}", is_known=False)
    last, answer = attempts[-1], _part(document, "answer")
    by_second = [finding for finding in findings if finding.hop == "second_lb"]
    wrote = [f"{LOAD_BALANCERS.get(str(one.written_by), 'it')} wrote the answer" for one in by_second]
    through = _through(answer) or next(iter(wrote), None)
    report.add("second_lb", through or "nothing tells of one", by_second, is_known=through is not None)
    took = f" in {ms(last['head_ms'])}" if isinstance(last.get("head_ms"), int | float) else ""
    outcome = f"answered {last.get('status')}{took}" if last.get("status") else f"{last.get('fault') or last.get('ended')}"
    report.add("upstream", f"{last.get('address')}: {outcome}", [finding for finding in findings if finding.hop != "second_lb"])


def _through(answer: Mapping[str, Any]) -> str | None:
    written_by = str(answer.get("written_by") or "")
    headers = tuple((name, str(answer[name])) for name in ("server", "via") if answer.get(name))
    passed = between(Answer(200, headers=headers))
    if written_by in LOAD_BALANCERS:
        return f"{LOAD_BALANCERS[written_by]} wrote the answer: {answer.get('mark') or 'its own shape'}"
    if passed is None:
        return None
    return f"the answer says {passed[1]}: {LOAD_BALANCERS.get(passed[0], passed[0])} stands there, or is the server itself"


def _replaced(sent: Sent, document: Mapping[str, Any]) -> list[Finding]:
    """Whether the client was told something else than the gateway had answered."""
    answer, status = sent.answer, document.get("status")
    if not isinstance(answer, Answer) or not isinstance(status, int) or answer.status == status or answer.status < _BROKEN:
        return []
    if broke_in_body(document):
        return []  # the gateway broke off, and what stands before it had nothing to hand on
    author = author_of(answer)
    is_gone = status == 499
    return [
        Finding(
            hop="first_lb",
            phase="send_answer",
            cause="client_gone" if is_gone else _BY_STATUS.get(answer.status, "bad_gateway_behind"),
            finding="first_lb_gave_up" if is_gone else "first_lb_replaced_answer",
            summary=(
                f"The first load balancer gave up before the gateway had an answer, and said {answer.status}."
                if is_gone
                else f"The gateway answered {status}, and the client was told {answer.status} by what stands before it."
            ),
            confidence=0.9,
            status=answer.status,
            written_by=author.name,
            request_id=document.get("request_id"),
            evidence=(
                f"the gateway's record of the probe says {status}, the client's end saw {answer.status}",
                *([f"written by {author.name}: {author.mark}"] if author.mark else []),
            ),
            cure=(
                "have the first load balancer wait for longer than the gateway may take; --first-lb-timeout shows the times"
                if is_gone
                else "look into the log of the first load balancer: a limit of its own on headers, body or time",
            ),
        )
    ]


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}
