# SPDX-License-Identifier: Apache-2.0
"""What did the gateway itself, or its configuration, not have for this request?"""

from __future__ import annotations

from pylae.explain import calls
from pylae.explain.case import Case, Finding
from pylae.explain.words import escaped, quoted


def no_route(case: Case) -> Finding:
    """`no_route`."""
    request = case.facts.request
    asked = {
        name: value
        for name, value in (
            ("method", request.method),
            ("scheme", request.scheme),
            ("host", request.host),
            ("path", request.path),
        )
        if value
    }
    what = f"{escaped(request.method or '?', 40)} {quoted(request.path or request.line)} of host {quoted(request.host)}"
    return Finding(
        hop="gateway",
        name="no_route",
        summary=f"No Route of the gateway matches {what}; nothing was sent to any upstream.",
        confidence=0.9,
        evidence=[
            f"the request came by {escaped(request.scheme or 'http', 20)}",
            "the router looked at host, path, method, headers and SNI",
        ],
        cure=[
            "see which Routes come nearest, and which condition fails:",
            calls.admin(case.admin_url, "POST", "/explain/route", **asked),
            "mend the client's URL, or the condition of that Route; or add a Route:",
            calls.admin(case.admin_url, "POST", "/services/SERVICE/routes", **{"paths[]": request.path or "/PATH"}),
        ],
    )


def https_required(case: Case) -> Finding:
    """`https_required`."""
    route = case.facts.route
    return Finding(
        hop="client",
        name="https_required",
        summary=(
            f"The Route {quoted((route.name or route.id) if route else None)} is for https only, and the request "
            "came in the clear."
        ),
        confidence=0.75 if case.signs_of_first_lb() else 0.85,
        evidence=[
            f"the request came by {escaped(case.facts.request.scheme or 'http', 20)}",
            *[f"something stands before us: {sign}" for sign in case.signs_of_first_lb()],
        ],
        cure=[
            "call it over https",
            "if a load balancer before us ends TLS: put its address into `trusted_ips` and let it send X-Forwarded-Proto: https",
            "or let the Route take http too:",
            case.patch_route(**{"protocols[]": ["http", "https"]}),
        ],
        probes=[case.get("/routes")],
    )


def no_service(case: Case) -> Finding:
    """`no_service`."""
    route = case.facts.route
    return Finding(
        hop="gateway",
        name="no_service",
        summary=(
            f"The Route {quoted((route.name or route.id) if route else None)} has no Service, and no plugin "
            "answered in its place."
        ),
        confidence=0.95,
        evidence=["the Route matched; there was nowhere to send the request"],
        cure=[
            "give it a Service:",
            case.patch_route(service__id="SERVICE-ID"),
            "or a plugin that answers, such as request-termination",
        ],
    )


def spool_failed(case: Case) -> Finding:
    """`spool_failed`."""
    return Finding(
        hop="gateway",
        name="spool_failed",
        summary=(
            "The gateway could not put a large body on its disk, or read it back: the disk of PREFIX/spool is full or broken."
        ),
        confidence=0.95,
        evidence=[f"found: {escaped(text)}" for text in dict.fromkeys((case.detail, case.facts.phrase or "")) if text],
        cure=[
            "make room: df -h on the disk of PREFIX/spool",
            "or keep more in memory: raise `nginx_http_client_body_buffer_size`; or pass bodies on as they come:",
            case.patch_route(request_buffering=False),
        ],
    )


def panicked(case: Case) -> Finding:
    """`panicked`."""
    return Finding(
        hop="gateway",
        name="bug",
        summary="The gateway itself failed on this request: a bug of ours.",
        confidence=0.95,
        evidence=[f"found: {escaped(text)}" for text in dict.fromkeys((case.detail, case.facts.phrase or "")) if text],
        cure=["report the lines of error.log around this request, with its record in failures.jsonl"],
    )


def too_many_connections(case: Case) -> Finding:
    """`too_many_connections`."""
    return Finding(
        hop="gateway",
        name="too_many_connections",
        summary="The worker holds as many connections as it may, and closed this one unread.",
        confidence=0.9,
        evidence=[
            "the connection was closed before a request was read from it",
            *([f"found: {escaped(case.detail)}"] if case.detail else []),
        ],
        cure=["raise the limit of open files (ulimit -n) or `nginx_worker_processes` in kong.conf, then:", "pylae restart"],
    )


RULES = {
    "no_route": no_route,
    "https_required": https_required,
    "no_service": no_service,
    "spool_failed": spool_failed,
    "panicked": panicked,
    "too_many_connections": too_many_connections,
}
