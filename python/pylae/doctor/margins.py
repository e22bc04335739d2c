# SPDX-License-Identifier: Apache-2.0
"""How near are the headers of a request to the limits that they meet on their way?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pylae.doctor.findings import Finding
from pylae.doctor.reports import Report
from pylae.doctor.requests import Request
from pylae.explain.words import quoted, size

NEAR_RATIO: Final = 0.8
KIB: Final = 1024
_LESS: Final = "send less in this field: a smaller cookie, a token without so many claims"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a server takes by default: in one line, in the whole head."""

    whose: str
    line_bytes: int | None
    head_bytes: int | None


OTHERS: Final = (
    Limit("nginx", 8 * KIB, None),
    Limit("HAProxy", None, 16 * KIB),
    Limit("an AWS load balancer", 16 * KIB, 64 * KIB),
    Limit("gunicorn", 8190, None),
    Limit("node", None, 16 * KIB),
)
"""Limits that nobody has changed."""


def judge_headers(report: Report, request: Request, ours: tuple[int, int]) -> None:
    """Notes the margin of a request's head.

    Args:
        report: takes the line.
        request: as a client would send it.
        ours: how many buffers the gateway has for a head, and their size in bytes.
    """
    sizes = [(name, len(name) + 2 + len(value.encode())) for name, value in request.headers]
    first_line_bytes = len(request.method) + 1 + len(request.path) + len(" HTTP/1.1")
    head_bytes = sum(line_bytes + 2 for _, line_bytes in sizes) + first_line_bytes + len(request.authority) + 10
    name, largest_bytes = max([*sizes, ("the request line", first_line_bytes)], key=lambda pair: pair[1])
    count, buffer_bytes = ours
    found = {"line": largest_bytes, "head": head_bytes}
    largest = f"the largest header is {quoted(name)} with {size(largest_bytes)}"
    findings = [
        _ours(what, found[what], limit, largest) for what, limit in (("line", buffer_bytes), ("head", count * buffer_bytes))
    ]
    findings.append(_of_others(found, largest))
    text = f"{size(head_bytes)} in all, the largest line {size(largest_bytes)}"
    report.add("headers", text, [finding.of(request.url, None) for finding in findings if finding is not None])


def _ours(what: str, found_bytes: int, limit_bytes: int, largest: str) -> Finding | None:
    if found_bytes < NEAR_RATIO * limit_bytes:
        return None
    is_over = found_bytes > limit_bytes
    return Finding(
        hop="client",
        phase="read_request",
        cause="request_header_too_large",
        finding="request_header_too_large" if is_over else "request_header_near_limit",
        summary=f"The {what} of the request has {size(found_bytes)}; the gateway takes {size(limit_bytes)}.",
        confidence=0.95,
        is_broken=is_over,
        evidence=(largest,),
        cure=(_LESS, "or raise the limit: nginx_http_large_client_header_buffers"),
    )


def _of_others(found: dict[str, int], largest: str) -> Finding | None:
    near = [
        f"{limit.whose} takes {size(limit_bytes)} in a {what}, the request has {size(found[what])}"
        for limit in OTHERS
        for what, limit_bytes in (("line", limit.line_bytes), ("head", limit.head_bytes))
        if limit_bytes is not None and found[what] >= NEAR_RATIO * limit_bytes
    ]
    if not near:
        return None
    return Finding(
        hop="second_lb",
        phase="read_request",
        cause="header_too_large_behind",
        finding="request_header_near_limit",
        summary="The headers of the request are near, or over, what common servers and load balancers take.",
        confidence=0.5,
        is_broken=False,
        evidence=(largest, *(f"{line}, by default" for line in near)),
        cure=(_LESS, "or raise the limit of those that stand on the way"),
        probes=("which of them stand on the way: --hops tells",),
    )
