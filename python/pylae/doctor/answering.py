# SPDX-License-Identifier: Apache-2.0
"""Does the server answer as HTTP wants it, who wrote the answer, and may its connections be used again?"""

from __future__ import annotations

import re
from typing import Final

from pylae.doctor.answers import Answer, NoAnswer
from pylae.doctor.authors import Author, author_of, says_it_wants_a_certificate, says_it_wants_tls
from pylae.doctor.findings import Finding, Hop, Phase, shown_bytes
from pylae.doctor.languages import NO_PROXY_LINE, looks_like_http2, looks_like_tls
from pylae.doctor.looks import Look
from pylae.explain.case import LOAD_BALANCERS
from pylae.explain.words import ms, quoted, size

HEAD_LIMIT_BYTES: Final = 64 * 1024
"""The largest head of an answer that a worker takes."""
_BEHIND: Final = {502: "bad_gateway_behind", 503: "unavailable_behind", 504: "timeout_behind"}
_TOO_LARGE: Final = (431, 494)
_SAID: Final = re.compile(r"timeout\s*=\s*(\d{1,6})")
_NEAR: Final = 0.8


def judge(look: Look) -> list[Finding]:
    """What is wrong with the answer of one address."""
    answer = look.answer
    if answer is None:
        return []
    if isinstance(answer, NoAnswer):
        return _unanswered(look, answer)
    if says_it_wants_tls(answer) or says_it_wants_a_certificate(answer):
        return []
    found: list[Finding] = []
    if answer.problem:
        found.append(_bad_response(look, answer))
    found += _of_status(look, answer)
    found += _of_size(look, answer)
    found += _of_body(look, answer)
    found += _of_reuse(look)
    return found


# === no answer ===


def _unanswered(look: Look, answer: NoAnswer) -> list[Finding]:
    aim, place, spoken = look.aim, look.place, look.spoken
    request = f"{look.method} {aim.path} with `Host: {aim.host_header}`"
    if answer.how == "handshake":
        return []
    if looks_like_tls(answer.received) or (spoken is not None and spoken.tls and not spoken.http and not aim.is_tls):
        return []  # securing.py says it
    if looks_like_http2(answer.received) or (spoken is not None and spoken.http2 and not spoken.http):
        is_shown = looks_like_http2(answer.received)
        return [
            _finding(
                look,
                "protocol_mismatch" if is_shown else _cause_of(answer),
                "http2_only",
                f"{place} speaks HTTP/2 alone, and the gateway speaks HTTP/1.1 to it.",
                0.95,
                [
                    f"{request}: {_how(answer)}",
                    "the server began with a SETTINGS frame"
                    if is_shown
                    else "the preface of HTTP/2 on another connection was answered",
                ],
                ["have the server speak HTTP/1.1 beside HTTP/2 (h2c by upgrade, or on another port)"],
            )
        ]
    if spoken is not None and spoken.after_proxy_line:
        return [
            _finding(
                look,
                _cause_of(answer),
                "expects_proxy_protocol",
                f"{place} expects the PROXY protocol, which the gateway does not send.",
                0.9,
                [f"{request}: {_how(answer)}", "with a line of the PROXY protocol before it the same request is answered"],
                [NO_PROXY_LINE],
            )
        ]
    if answer.how == "not_http":
        return [
            _finding(
                look,
                "protocol_mismatch",
                "not_http",
                f"{place} does not speak HTTP.",
                0.9,
                [f"{request}: the server's first bytes were {quoted(shown_bytes(answer.received))}"],
                ["give the Service the port where its server speaks HTTP:", aim.patch(port="PORT")],
            )
        ]
    if answer.how == "too_much":
        return [
            _finding(
                look,
                "response_header_too_large",
                "endless_head",
                f"{place} sends a head that does not end.",
                0.9,
                [f"{request}: {answer.detail}", f"the gateway takes {size(HEAD_LIMIT_BYTES)}"],
                ["look for a cookie or header that grew, in what the server sends"],
            )
        ]
    if answer.how == "timeout":
        return [_silent(look, answer, request)]
    again = spoken is not None and spoken.http
    return [
        _finding(
            look,
            _cause_of(answer),
            "closed_without_answer",
            f"{place} takes a request and closes without an answer.",
            0.5 if again else 0.7,
            [
                f"{request}: {_how(answer)}, {ms(answer.took_ms)} after it was sent",
                "the same request on another connection was answered: it happens now and then"
                if again
                else "neither TLS, nor HTTP/2, nor a PROXY line before the request is answered there"
                if spoken is not None
                else "HEAD on another connection was answered",
            ],
            ["look for a crash in the log of the server at this second, or for a load balancer without a server behind it"],
            probes=[aim.curl(place)],
        )
    ]


def _silent(look: Look, answer: NoAnswer, request: str) -> Finding:
    aim = look.aim
    limit_ms = aim.wait_ms("read_timeout")
    has_waited_as_long = answer.took_ms >= limit_ms
    return _finding(
        look,
        "read_timeout",
        "silent",
        f"{look.place} took {look.method} {aim.path} and has not answered after {ms(answer.took_ms)}.",
        0.75 if has_waited_as_long else 0.5,
        [
            f"{request}: no byte of an answer in {ms(answer.took_ms)}" if not answer.received else f"{request}: {_how(answer)}",
            f"read_timeout of the Service is {ms(limit_ms)}",
        ],
        ["find what the server waits for: its own database, a lock, a full queue of workers"],
        probes=[aim.curl(look.place, "--max-time", str(max(limit_ms // 1000, 1)))],
        is_broken=has_waited_as_long,
    )


def _cause_of(answer: NoAnswer) -> str:
    if answer.received:
        return {"timeout": "read_timeout", "rst": "reset", "fin": "closed_before_headers"}.get(answer.how, "protocol_mismatch")
    return {"rst": "reset", "timeout": "read_timeout"}.get(answer.how, "closed_before_headers")


def _how(answer: NoAnswer) -> str:
    words = {
        "fin": "the server closed the connection (FIN)",
        "rst": "the server reset the connection (RST)",
        "timeout": "the server fell silent",
        "not_http": "what came is no HTTP",
        "failed": "the connection failed",
    }.get(answer.how, answer.how)
    if answer.received and answer.how != "not_http":
        return f"{words} after {quoted(shown_bytes(answer.received, 32))}"
    return f"{words} without a byte" if answer.how in ("fin", "rst") else words


# === an answer ===


def _bad_response(look: Look, answer: Answer) -> Finding:
    return _finding(
        look,
        "bad_response",
        "invalid_head",
        f"{look.place} writes a head that HTTP does not allow.",
        0.9,
        [answer.problem],
        ["have the server, or the load balancer before it, write that line as HTTP wants it"],
        phase="read_answer",
    )


def _of_status(look: Look, answer: Answer) -> list[Finding]:
    status = answer.status
    if status in _TOO_LARGE:
        return [_too_large(look, answer)]
    if status < 500 or status == 501:
        return []
    author = author_of(answer)
    is_balancer = author.name in LOAD_BALANCERS
    hop: Hop = "second_lb" if is_balancer and status in _BEHIND else "upstream"
    cause = _BEHIND.get(status, "upstream_error") if status in _BEHIND else "upstream_error"
    who = LOAD_BALANCERS.get(author.name, author.name)
    evidence = [
        f"{look.method} {look.aim.path} with `Host: {look.aim.host_header}` was answered {status} {answer.reason}".strip()
    ]
    if author.mark:
        evidence.append(f"written by {who}: {author.mark}")
    if author.stands_between and author.stands_between != author.name:
        evidence.append(f"it came through {LOAD_BALANCERS.get(author.stands_between, author.stands_between)}")
    confidence = 0.9 if is_balancer else 0.7 if author.name == "application" else 0.5
    if not look.aim.is_given:
        evidence.append("the probe asked for the Service's own path; other paths may do better")
        if status not in _BEHIND:
            confidence = min(confidence, 0.6)
    return [
        _finding(
            look,
            cause,
            {502: "bad_gateway", 503: "unavailable", 504: "gateway_timeout"}.get(status, "server_error"),
            f"{look.place} answers {status}" + (f": {who} there has trouble with what stands behind it." if is_balancer else "."),
            confidence,
            evidence,
            _cure_of(author, status),
            probes=[look.aim.curl(look.place)],
            hop=hop,
            written_by=author.name,
            is_broken=status in _BEHIND or look.aim.is_given,
            status=status,
            phase="done",
        )
    ]


def _cure_of(author: Author, status: int) -> list[str]:
    who = LOAD_BALANCERS.get(author.name)
    if who is None:
        return ["look into the log of the server at this second"]
    what = {
        502: "which of its servers refuses or closes connections",
        503: "whether any of its servers passes the health check",
        504: "which of its servers is slower than its timeout",
    }.get(status, "what it says of this request")
    return [f"look into the log and status of {who}: {what}"]


def _too_large(look: Look, answer: Answer) -> Finding:
    return _finding(
        look,
        "header_too_large_behind",
        "request_header_too_large",
        f"{look.place} finds the headers of the request too large.",
        0.9,
        [f"the server answered {answer.status} {answer.reason}".strip()],
        ["make cookies and tokens smaller, or raise the limit of the server for headers"],
        phase="done",
        status=answer.status,
    )


def _of_size(look: Look, answer: Answer) -> list[Finding]:
    if answer.head_bytes < _NEAR * HEAD_LIMIT_BYTES:
        return []
    name, name_bytes = answer.largest_header
    is_over = answer.head_bytes > HEAD_LIMIT_BYTES
    return [
        _finding(
            look,
            "response_header_too_large",
            "response_header_too_large" if is_over else "response_header_near_limit",
            f"The head of the answer of {look.place} has {size(answer.head_bytes)}; the gateway takes {size(HEAD_LIMIT_BYTES)}.",
            0.95,
            [f"the largest header is {quoted(name)} with {size(name_bytes)}"],
            ["make that header smaller: cookies that are set again and again, a policy that lists too much"],
            is_broken=is_over,
            phase="read_answer",
        )
    ]


_BODY_CAUSES: Final = {
    "fin": ("closed_in_body", "body_broke_off", "breaks off"),
    "rst": ("reset_in_body", "body_broke_off", "breaks off"),
    "failed": ("reset_in_body", "body_broke_off", "breaks off"),
    "bad_chunk": ("bad_response_body", "invalid_chunk", "has a chunk that HTTP does not allow"),
    "timeout": ("read_timeout_in_body", "body_stopped", "stopped"),
}
"""By how a body ended: cause, finding, and the words for it."""


def _of_body(look: Look, answer: Answer) -> list[Finding]:
    if answer.body_end not in _BODY_CAUSES:
        return []
    cause, finding, words = _BODY_CAUSES[answer.body_end]
    length = answer.header("content-length")
    announced = f"the head says Content-Length {length}" if length is not None else "the body comes in chunks, or until the end"
    is_slow = answer.body_end == "timeout"
    limit_ms = look.aim.wait_ms("read_timeout")
    return [
        _finding(
            look,
            cause,
            finding,
            f"The body of the answer of {look.place} {words}.",
            0.5 if is_slow else 0.7,
            [f"{announced}; {size(len(answer.body))} came, then: {answer.body_end}"],
            [
                "find what the server waits for in the middle of its answer"
                if is_slow
                else "look for a crash of the server in the middle of the answer, or a body that is not as its head says"
            ],
            probes=[look.aim.curl(look.place)],
            phase="read_answer",
            # The gateway may wait for longer than this command.
            is_broken=not is_slow or limit_ms <= look.aim.patience_s * 1000,
        )
    ]


def _of_reuse(look: Look) -> list[Finding]:
    """The second request on the same connection."""
    answer = look.answer
    if not isinstance(look.again, NoAnswer) or not isinstance(answer, Answer):
        return []
    if look.again.how not in ("fin", "rst", "failed") or look.again.received:
        return []
    return [
        _finding(
            look,
            _cause_of(look.again),
            "closed_at_reuse",
            f"{look.place} closes after an answer that says the connection stays open.",
            0.75,
            [
                f"the answer was HTTP/{answer.version} without `Connection: close`",
                f"a second request on it met: {_how(look.again)}",
                "requests that may not be repeated (POST, PATCH) fail of this now and then",
            ],
            ["have the server keep connections, or say `Connection: close`"],
            probes=[look.aim.curl(look.place)],
            is_broken=False,
            phase="send_request",
        )
    ]


def said_idle_s(answer: Answer) -> int | None:
    """How long the server says that it keeps an idle connection."""
    found = _SAID.search(answer.header("keep-alive") or "")
    return int(found[1]) if found else None


def _finding(
    look: Look,
    cause: str,
    finding: str,
    summary: str,
    confidence: float,
    evidence: list[str],
    cure: list[str],
    *,
    probes: list[str] | None = None,
    hop: Hop = "upstream",
    phase: Phase = "wait_for_answer",
    written_by: str | None = None,
    is_broken: bool = True,
    status: int | None = None,
) -> Finding:
    return Finding(
        hop=hop,
        phase=phase,
        cause=cause,
        finding=finding,
        summary=summary,
        confidence=confidence,
        evidence=tuple(evidence),
        cure=tuple(cure),
        probes=tuple(probes or ()) if confidence < 0.8 else (),
        written_by=written_by,
        is_broken=is_broken,
        status=status,
        attempts=(look.attempt(),),
    )
