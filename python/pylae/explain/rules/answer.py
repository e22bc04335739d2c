# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the answer's head, or is it no HTTP at all?"""

from __future__ import annotations

import re
from typing import Final

from pylae.explain import banners
from pylae.explain.case import Case, Finding
from pylae.explain.facts import HeaderSize
from pylae.explain.rules.rewritten import scheme_changed
from pylae.explain.words import escaped, quoted, size

_FLAWS: Final = (
    ("two content-length", "duplicate_content_length", "has two Content-Length fields, so that nobody can say where it ends"),
    ("content-length is no number", "bad_content_length", "has a Content-Length that is no number"),
    ("both content-length and transfer-encoding", "length_and_chunked", "has both Content-Length and Transfer-Encoding"),
    ("two transfer-encoding", "duplicate_transfer_encoding", "has two Transfer-Encoding fields"),
    ("transfer-encoding is not", "unknown_transfer_encoding", "has a Transfer-Encoding other than `chunked`"),
    ("101 switching", "unasked_upgrade", "is 101 Switching Protocols, which the request did not ask for"),
    ("interim", "interim_flood", "never comes: the server sends one interim answer (1xx) after the other"),
    ("1xx", "interim_flood", "never comes: the server sends one interim answer (1xx) after the other"),
    ("field line", "bad_header_line", "has a header line that HTTP does not allow"),
)
"""By words of the detail: the finding, and what the answer's head has."""
_FIELD: Final = re.compile(rb"[A-Za-z][A-Za-z-]{1,30}: ?[^\r\n]*\r?\n")


def largest(of: HeaderSize) -> list[str]:
    """Which header is the largest."""
    return [f"its largest header is {quoted(of.name, 80)} with {size(of.bytes)}"] if of.name else []


def too_large(case: Case) -> Finding:
    """`response_header_too_large`."""
    attempt, answer = case.attempt, case.facts.answer
    header = attempt.largest_header if attempt.largest_header.name else answer.largest_header
    limit = attempt.head_limit_bytes or answer.head_limit_bytes
    got = attempt.head_bytes or answer.head_bytes
    name = quoted(header.name, 80) if header.name else "a header"
    return Finding(
        hop="upstream",
        name="response_header_too_large",
        summary=f"The head of the answer from {case.server} is larger than we take: {name} has grown.",
        confidence=0.9,
        evidence=[f"{size(got)} of a head had come; the limit is {size(limit)}", *largest(header)],
        cure=[
            (
                f"make {name} smaller at the server: a cookie or token that grows with each answer, debug headers, "
                "a Link or CSP list"
            ),
            "the limit of 64 KiB is fixed; nginx's default in its place would be 4 or 8 KiB",
        ],
    )


def bad(case: Case) -> Finding:
    """`bad_response`."""
    name, words = next(
        ((key, told) for sign, key, told in _FLAWS if sign in case.hints),
        ("bad_head", "is not what HTTP allows"),
    )
    shown = case.first_bytes()
    if name == "unasked_upgrade" and (wanted := case.facts.request.header("upgrade")):
        return Finding(
            hop="gateway",
            name="upgrade_not_passed_on",
            summary=f"The client asked to speak {quoted(wanted, 40)} instead, which this version does not pass on to upstreams.",
            confidence=0.75,
            evidence=[f"the client sent Upgrade: {quoted(wanted, 40)}", f"{case.server} answered 101 all the same"],
            cure=["let these clients reach the server without the gateway until it passes upgrades (WebSocket) on"],
            probes=[case.doctor()],
        )
    evidence = [f"found: {escaped(text)}" for text in dict.fromkeys((case.detail, case.attempt.phrase or "")) if text]
    return Finding(
        hop="upstream",
        name=name,
        summary=f"The answer from {case.server} {words}.",
        confidence=0.9,
        evidence=[*evidence, *([shown] if shown else [])],
        cure=[
            "mend the code of the server (or of what stands before it) that writes this line: two layers may both set it",
            "see it as it comes:",
            case.ask_server(flags=("--raw", "-i")),
        ],
    )


def mismatch(case: Case) -> Finding:
    """`protocol_mismatch`."""
    banner = banners.told(case.first_bytes_hex, case.attempt.first_bytes)
    shown = case.first_bytes()
    evidence = [*([shown] if shown else []), "an HTTP answer begins with `HTTP/1.`"]
    if banner is not None and banner.is_tls:
        changed = scheme_changed(case, "http", evidence)
        return changed or Finding(
            hop="upstream",
            name="plain_http_to_tls",
            summary=f"We spoke plain HTTP to {case.server}, and that port speaks TLS.",
            confidence=0.95,
            evidence=[*evidence, "15 03 is a TLS alert, 16 03 a TLS handshake"],
            cure=["call the Service over TLS:", case.patch_service(protocol="https")],
        )
    if banner is not None and banner.key == "http2_only":
        return Finding(
            hop="upstream",
            name="http2_only",
            summary=f"{case.server} speaks HTTP/2 alone, and was sent HTTP/1.1.",
            confidence=0.95,
            evidence=[*evidence, "00 00 xx 04 00 00 00 00 00 is a SETTINGS frame of HTTP/2"],
            cure=["let the server speak HTTP/1.1 too (most can), or call another of its ports:", case.patch_target(port="PORT")],
        )
    if banner is not None and banner.key == "http_0_9":
        return Finding(
            hop="upstream",
            name="http_0_9",
            summary=f"{case.server} sends a body without a status line and headers (as HTTP/0.9 did).",
            confidence=0.9,
            evidence=evidence,
            cure=[
                (
                    "let the server (or the script behind it) write a status line and headers: a CGI without them, "
                    "a bare socket server"
                )
            ],
        )
    if banner is not None and not banner.is_http:
        return Finding(
            hop="upstream",
            name=banner.key,
            summary=f"{case.server} does not speak HTTP but {banner.protocol}: the port is not the web server's.",
            confidence=0.9,
            evidence=evidence,
            cure=["give the Service the port of the web server:", case.patch_target(port="PORT")],
        )
    if banner is not None:
        return Finding(
            hop="upstream",
            name="bad_status_line",
            summary=f"{case.server} begins its answer with a status line that HTTP does not allow.",
            confidence=0.9,
            evidence=[*evidence, *([f"found: {escaped(case.detail)}"] if case.detail else [])],
            cure=[
                "mend what writes it: `HTTP/1.1`, a blank, three digits, a blank",
                "see it:",
                case.ask_server(flags=("--raw", "-i")),
            ],
        )
    said = banners.unescaped(case.attempt.first_bytes) or case.first_bytes_hex
    if (at := said.find(b"HTTP/1.")) > 0:
        return Finding(
            hop="upstream",
            name="noise_before_status_line",
            summary=f"{case.server} writes something before the status line of its answer: {size(at)} that are no HTTP.",
            confidence=0.85,
            evidence=evidence,
            cure=[
                "take out what writes it: a warning of a script, a byte order mark, an empty line, or more of the "
                "answer before this one than its Content-Length says",
                "see it as it comes:",
                case.ask_server(flags=("--raw", "-i", "--http0.9")),
            ],
        )
    if _FIELD.match(said):
        return Finding(
            hop="upstream",
            name="head_without_status_line",
            summary=f"{case.server} sends header fields without a status line before them.",
            confidence=0.85,
            evidence=evidence,
            cure=[
                "let it write `HTTP/1.1 200 OK` first; a script for CGI writes fields alone, and wants a web server before it",
                "see it as it comes:",
                case.ask_server(flags=("--raw", "-i", "--http0.9")),
            ],
        )
    return Finding(
        hop="upstream",
        name="not_http",
        summary=f"What answers at {case.server} does not speak HTTP.",
        confidence=0.85,
        evidence=[*evidence, *([f"found: {escaped(case.detail)}"] if case.detail else [])],
        cure=["see what listens there, and give the Service the port of the web server:", case.patch_target(port="PORT")],
    )


RULES = {"response_header_too_large": too_large, "bad_response": bad, "protocol_mismatch": mismatch}
