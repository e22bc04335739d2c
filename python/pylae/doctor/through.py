# SPDX-License-Identifier: Apache-2.0
"""What happens to a request in this very gateway, and what does it say of it afterwards?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast, get_args
from urllib.parse import quote

from pylae.doctor import handshakes, marks
from pylae.doctor.aims import HARMLESS
from pylae.doctor.answers import Answer, NoAnswer, Question, ask
from pylae.doctor.authors import author_of
from pylae.doctor.configured import AdminApi
from pylae.doctor.findings import Finding, Hop, Phase
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded, Place
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.doctor.waiting import still_waiting
from pylae.explain.case import LOAD_BALANCERS
from pylae.explain.words import escaped, ms
from pylae.settings import Listener

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}
_ID: Final = "x-kong-request-id"
_BEHIND: Final = {502: "bad_gateway_behind", 503: "unavailable_behind", 504: "timeout_behind"}
_IN_BODY: Final = ("bad_response_body",)
"""Causes that `_in_body` does not end, of answers whose head had come."""
_REFUSED: Final = 400
_UNAUTHORIZED: Final = (401, 403)
_BROKEN: Final = 500


@dataclass(frozen=True, slots=True)
class Walked:
    """What came of it.

    Attributes:
        document: what `/explain` says of the request; None: nothing.
    """

    answer: Answer | NoAnswer
    document: Mapping[str, Any] | None = None

    @property
    def status(self) -> int:
        """That of the answer; 0: there was none."""
        return self.answer.status if isinstance(self.answer, Answer) else 0

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request, where it tells."""
        return self.answer.header(_ID) if isinstance(self.answer, Answer) else None


def listener_for(listeners: Sequence[Listener], scheme: str) -> tuple[Place, bool] | None:
    """Where this gateway takes requests of a scheme, and whether TLS is spoken there; None: nowhere.

    Where it has no address with TLS, what stands before it ends TLS.
    """
    usable = [listener for listener in listeners if "proxy_protocol" not in listener.flags]
    for listener in sorted(usable, key=lambda one: one.is_tls != (scheme == "https")):
        if scheme == "https" or not listener.is_tls:
            return Place(_ANY.get(listener.address, listener.address), listener.port), listener.is_tls
    return None


async def walk(
    api: AdminApi,
    listener: tuple[Place, bool],
    request: Request,
    patience_s: float,
    key: bytes | None = None,
    *,
    is_looked_up: bool = False,
) -> Walked:
    """Sends the request once to the gateway itself.

    Args:
        api: the Admin API.
        listener: where, and whether TLS is spoken there.
        request: what is sent.
        patience_s: with each step.
        key: what marks it, so that it is found without an answer, too; None: nothing.
        is_looked_up: whether its record is asked for even if it went well.
    """
    place, is_tls = listener
    mark = marks.mark(key, request.method, request.bare_path, time.time()) if key and request.method in HARMLESS else None
    headers = [*request.headers, *([(marks.HEADER, mark.value)] if mark is not None else [])]
    question = Question(request.method, request.path, request.authority, headers, request.body)
    answer: Answer | NoAnswer
    try:
        with await Link.connect(place, patience_s) as link:
            link.extend(patience_s)
            if is_tls:
                await link.start_tls(handshakes.context(), request.host)
            answer = await ask(link, question)
    except LinkEnded as ended:
        return Walked(NoAnswer(ended.how, ended.detail))
    except (HandshakeFailed, ValueError) as error:  # or a name that TLS cannot carry
        return Walked(NoAnswer("handshake", str(error)))
    found = Walked(answer)
    if 0 < found.status < _REFUSED and not is_looked_up:
        return found
    request_id = found.request_id
    if mark is not None and (request_id is None or is_looked_up):
        row = await marks.seen(api.call, mark.nonce)
        request_id = str(row.get("request_id")) if row is not None else request_id
    if request_id:
        status, document = await api.call("GET", f"/explain/{quote(request_id[:64], safe='')}")
        if status == 200:
            return Walked(answer, document)
    return found


def judge(report: Report, walked: Walked, place: Place, request: Request) -> None:
    """Notes what came of it."""
    answer, document = walked.answer, walked.document
    sent = f"{request.method} {request.path} by {place}"
    if isinstance(answer, NoAnswer):
        waiting = still_waiting(document, answer.took_ms) if document is not None and answer.how == "timeout" else None
        recorded = None if document is None else finding_of(document)
        if waiting is None and recorded is not None:
            recorded = replace(recorded, is_broken=True).of(request.url, None)
        report.add("gateway", f"{sent}: no answer ({answer.how})", [waiting or recorded or _silent(answer, place, request)])
        return
    finding = None if document is None else finding_of(document)
    told = f"{sent}: {answer.status} in {ms(answer.took_ms)}"
    if walked.request_id:
        told += f", request id {escaped(walked.request_id, 40)}"
    if finding is not None and answer.status < _BROKEN and finding.cause in {one.cause for one in report.findings}:
        report.add("gateway", f"{told}; {finding.summary}", is_known=False)  # it is said above, with what it was seen by
    elif finding is not None:
        report.add("gateway", told, [as_told(finding, answer.status, request).of(request.url, None)])
    elif answer.status >= _BROKEN:
        report.add("gateway", told, [unexplained(answer, document).of(request.url, None)])
    else:
        report.add("gateway", told)


def unexplained(answer: Answer, document: Mapping[str, Any] | None) -> Finding:
    """An error that the gateway has no verdict on."""
    author = author_of(answer)
    attempts = [one for one in (document or {}).get("attempts") or [] if isinstance(one, Mapping)]
    came_from_behind = bool(attempts) and attempts[-1].get("status") == answer.status
    evidence = [f"the answer was {answer.status} {answer.reason}".strip()]
    if author.mark:
        evidence.append(f"written by {LOAD_BALANCERS.get(author.name, author.name)}: {author.mark}")
    if came_from_behind:
        evidence.append(f"the upstream at {attempts[-1].get('address')} answered {answer.status} to the gateway")
    elif document is None:
        evidence.append("the gateway keeps no record of it")
    return Finding(
        hop="second_lb" if came_from_behind and author.name in LOAD_BALANCERS else "upstream",
        phase="done",
        cause=_BEHIND.get(answer.status, "upstream_error"),
        finding="unexplained",
        summary=f"The request was answered {answer.status}{', by what stands behind the gateway' if came_from_behind else ''}.",
        confidence=0.7 if came_from_behind else 0.3,
        status=answer.status,
        written_by=author.name,
        request_id=answer.header(_ID),
        attempts=tuple(attempts),
        evidence=tuple(evidence),
        cure=("look at the other findings, and into the logs of who wrote it, at this second",),
        probes=("the other lines of this request",),
    )


def finding_of(document: Mapping[str, Any]) -> Finding | None:
    """The verdict on a request that was just sent; None: nothing failed."""
    verdict = document.get("verdict")
    if not isinstance(verdict, Mapping) or not verdict.get("cause") or verdict.get("hop") not in get_args(Hop):
        return None
    phase = verdict.get("phase")
    return Finding(
        hop=cast("Hop", verdict["hop"]),
        phase=cast("Phase", phase if phase in get_args(Phase) else "done"),
        cause=str(verdict["cause"]),
        finding=str(verdict.get("finding") or verdict["cause"]),
        summary=str(verdict.get("summary") or ""),
        confidence=float(verdict.get("confidence") or 0),
        evidence=tuple(map(str, verdict.get("evidence") or ())),
        cure=tuple(map(str, verdict.get("cure") or ())),
        probes=tuple(map(str, verdict.get("probes") or ())),
        written_by=verdict.get("written_by"),
        status=document.get("status"),
        is_broken=not isinstance(status := document.get("status"), int) or status >= _REFUSED or broke_in_body(document),
        route=document.get("route"),
        service=document.get("service"),
        plugins=tuple(document.get("plugins") or ()),
        attempts=tuple(document.get("attempts") or ()),
        request_id=document.get("request_id"),
    )


def as_told(finding: Finding, status: int, request: Request) -> Finding:
    """The verdict on a request, with the status that its client got and what would answer a plugin that wants something.

    Args:
        finding: of the gateway's record.
        status: of the answer.
        request: that was sent.
    """
    if status >= _REFUSED:
        finding = replace(finding, status=status)
    if finding.hop == "plugin" and status in _UNAUTHORIZED and not request.headers:
        finding = replace(finding, cure=(*finding.cure, "-H 'NAME: VALUE' of this command gives it what it asks for"))
    return finding


def broke_in_body(document: Mapping[str, Any]) -> bool:
    """Whether the answer that the gateway began broke off behind it, whatever its status says."""
    cause = str(_verdict(document).get("cause") or "")
    return cause.endswith("_in_body") or cause in _IN_BODY


def _verdict(document: Mapping[str, Any]) -> Mapping[str, Any]:
    verdict = document.get("verdict")
    return verdict if isinstance(verdict, Mapping) else {}


def _silent(answer: NoAnswer, place: Place, request: Request) -> Finding:
    is_refused, is_slow = answer.how == "refused", answer.how == "timeout"
    return Finding(
        hop="gateway",
        phase="accept",
        cause="connect_refused" if is_refused else "read_timeout" if is_slow else "too_many_connections",
        finding="gateway_does_not_listen" if is_refused else "gateway_does_not_answer",
        summary=f"The gateway itself does not answer at {place}{f' within {ms(answer.took_ms)}' if is_slow else ''}.",
        confidence=0.9 if is_refused else 0.3,
        subject=request.url,
        evidence=(
            f"{request.method} {request.path}: {answer.how} {answer.detail}".strip(),
            *(["it may wait for its upstream: the other lines tell"] if is_slow else []),
        ),
        cure=("look into the gateway's error.log", "pylae health"),
        probes=() if is_refused else ("look into the gateway's error.log", "the same with a larger --timeout"),
    )
