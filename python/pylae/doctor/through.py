# SPDX-License-Identifier: Apache-2.0
"""What happens to a request in this very gateway, and what does it say of it afterwards?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from pylae.doctor import handshakes
from pylae.doctor.answers import Answer, NoAnswer, Question, ask
from pylae.doctor.configured import AdminApi
from pylae.doctor.findings import Finding, Hop, Phase
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded, Place
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.explain.words import escaped, ms
from pylae.settings import Listener

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}
_ID: Final = "x-kong-request-id"
_REFUSED: Final = 400
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


async def walk(api: AdminApi, place: Place, request: Request, patience_s: float, *, is_tls: bool) -> Walked:
    """Sends the request once to the gateway itself."""
    question = Question(request.method, request.path, request.authority, request.headers, request.body)
    try:
        with await Link.connect(place, patience_s) as link:
            if is_tls:
                await link.start_tls(handshakes.context(), request.host)
            answer = await ask(link, question)
    except LinkEnded as ended:
        return Walked(NoAnswer(ended.how, ended.detail))
    except HandshakeFailed as error:
        return Walked(NoAnswer("handshake", str(error)))
    except ValueError as error:  # a name that TLS cannot carry
        return Walked(NoAnswer("handshake", str(error)))
    found = Walked(answer)
    if found.request_id and isinstance(answer, Answer) and answer.status >= _REFUSED:
        status, document = await api.call("GET", f"/explain/{found.request_id[:64]}")
        if status == 200:
            return Walked(answer, document)
    return found


def judge(report: Report, walked: Walked, place: Place, request: Request) -> None:
    """Notes what came of it."""
    answer, document = walked.answer, walked.document
    sent = f"{request.method} {request.path} by {place}"
    if isinstance(answer, NoAnswer):
        report.add("gateway", f"{sent}: no answer ({answer.how})", [_silent(answer, place, request)])
        return
    finding = None if document is None else finding_of(document)
    told = f"{sent}: {answer.status} in {ms(answer.took_ms)}"
    if walked.request_id:
        told += f", request id {escaped(walked.request_id, 40)}"
    if finding is not None and (finding.status or answer.status) < _BROKEN and not request.headers and not request.body:
        report.add("gateway", f"{told}; {finding.summary}; -H gives it what it asks for", is_known=False)
    elif finding is not None:
        report.add("gateway", told, [finding.of(request.url, None)])
    elif answer.status >= _BROKEN:
        report.add("gateway", f"{told}; it does not tell why: the other lines do", is_known=False)
    else:
        report.add("gateway", told)


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
        route=document.get("route"),
        service=document.get("service"),
        plugins=tuple(document.get("plugins") or ()),
        attempts=tuple(document.get("attempts") or ()),
        request_id=document.get("request_id"),
    )


def _silent(answer: NoAnswer, place: Place, request: Request) -> Finding:
    is_refused = answer.how == "refused"
    return Finding(
        hop="gateway",
        phase="accept",
        cause="connect_refused" if is_refused else "too_many_connections" if answer.how == "fin" else "read_timeout",
        finding="gateway_does_not_listen" if is_refused else "gateway_does_not_answer",
        summary=f"The gateway itself does not answer at {place}.",
        confidence=0.9 if is_refused else 0.4,
        subject=request.url,
        evidence=(f"{request.method} {request.path}: {answer.how} {answer.detail}".strip(),),
        cure=("look into the gateway's error.log", "pylae health"),
        probes=() if is_refused else ("look into the gateway's error.log",),
    )
