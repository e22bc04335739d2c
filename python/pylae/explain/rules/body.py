# SPDX-License-Identifier: Apache-2.0
"""Why did the body of an answer not come whole? The client had seen the status by then."""

from __future__ import annotations

from pylae.explain.case import LOAD_BALANCERS, Case, Finding
from pylae.explain.rules.exchange import known_timeout
from pylae.explain.rules.swallowed import acknowledged
from pylae.explain.words import escaped, ms, quoted, round_seconds, size


def _evidence(case: Case) -> list[str]:
    attempt, answer = case.attempt, case.facts.answer
    lines = []
    if attempt.status is not None:
        lines.append(f"the head had come whole: status {attempt.status}, {ms(attempt.head_ms)} after the attempt began")
    head = attempt.head_bytes or answer.head_bytes
    if answer.length is not None:
        came = None if attempt.received_bytes is None or head is None else max(0, attempt.received_bytes - head)
        lines.append(f"Content-Length promised {size(answer.length)}{'' if came is None else f', {size(came)} of the body came'}")
    elif attempt.received_bytes is not None:
        lines.append(f"{size(attempt.received_bytes)} came in all")
    if case.detail:
        lines.append(f"found: {escaped(case.detail)}")
    return lines


def _through(case: Case) -> list[str]:
    """Does the answer show that it came through something?"""
    answer = case.facts.answer
    lines = []
    if answer.written_by in LOAD_BALANCERS:
        lines.append(
            f"the answer looks as if it came through {LOAD_BALANCERS[answer.written_by]}, which may be what broke it off"
        )
    elif answer.via:
        lines.append(f"the answer came through a proxy (Via: {quoted(answer.via, 80)}), which may be what broke it off")
    return lines


def _broken(case: Case, did: str) -> Finding:
    attempt = case.attempt
    since_head = None
    if case.lasted_ms is not None and attempt.head_ms is not None:
        since_head = case.lasted_ms - attempt.head_ms
    seconds = round_seconds(since_head if since_head is not None and since_head > 500 else None) or round_seconds(
        case.lasted_ms if case.lasted_ms is not None and case.lasted_ms > 500 else None
    )
    through = _through(case)
    base = 0.75 if did == "closed" or case.is_loopback else 0.65
    return Finding(
        hop="upstream",
        name=f"{did}_in_body",
        summary=f"{case.server} answered {attempt.status or ''} and {did} the connection in the middle of the body.".replace(
            "  ", " "
        ),
        confidence=min(base, 0.65) if through else base,
        evidence=[*_evidence(case), *through, *known_timeout(seconds)],
        cure=[
            "look into the server's log at that second: a crash, a worker timeout, an exception while the body was being made",
            "a Content-Length larger than the body: compare with the size it really sends",
            (
                "a proxy behind us that gave up on its own server (nginx: `upstream prematurely closed` or `timed "
                "out` in its error log)"
            ),
        ],
        probes=[case.ask_server(flags=("-o", "/dev/null")), case.doctor()],
    )


def closed(case: Case) -> Finding:
    """`closed_in_body`."""
    return _broken(case, "closed")


def reset(case: Case) -> Finding:
    """`reset_in_body`."""
    return _broken(case, "reset")


def stalled(case: Case) -> Finding:
    """`read_timeout_in_body`."""
    limit = case.attempt.timer.ms or (case.facts.service.read_timeout_ms if case.facts.service else None)
    through = _through(case)
    return Finding(
        hop="upstream",
        name="stalled_in_body",
        summary=f"{case.server} stopped in the middle of the body for {ms(limit)} (read_timeout).",
        confidence=0.65 if through else 0.7,
        evidence=[*_evidence(case), *through, f"not a byte came for {ms(limit)}", *acknowledged(case)],
        cure=[
            (
                "find what the server waits for in the middle of its answer; a stream that may be silent should "
                "send something now and then"
            ),
            "if it may be silent for longer:",
            case.patch_service(read_timeout=int(limit * 2) if limit and limit < 86_400_000 else "MILLISECONDS"),
        ],
        probes=[case.ask_server(flags=("-N", "-o", "/dev/null")), case.doctor()],
    )


def bad_chunks(case: Case) -> Finding:
    """`bad_response_body`."""
    return Finding(
        hop="upstream",
        name="bad_chunk",
        summary=f"{case.server} wrote a chunked body that breaks the rules of chunks.",
        confidence=0.9,
        evidence=_evidence(case),
        cure=[
            "mend what writes the chunks: a hexadecimal size, CRLF, so many bytes, CRLF, and a chunk of size 0 at the end",
            "a server that writes Transfer-Encoding itself over a library that does it too shows this",
            "see it as it comes:",
            case.ask_server(flags=("--raw", "-i")),
        ],
    )


RULES = {
    "closed_in_body": closed,
    "reset_in_body": reset,
    "read_timeout_in_body": stalled,
    "bad_response_body": bad_chunks,
}
