# SPDX-License-Identifier: Apache-2.0
"""Who wrote this 502? Answers that came from behind, and what their author means by them."""

from __future__ import annotations

from typing import Final

from pylae.explain import calls
from pylae.explain.case import LOAD_BALANCERS, Case, Finding
from pylae.explain.facts import AnswerFacts
from pylae.explain.rules.exchange import known_timeout
from pylae.explain.rules.rewritten import scheme_changed
from pylae.explain.words import escaped, ms, quoted, round_seconds, size

_LOGS: Final = {
    "nginx": "its error log says why at that second (`upstream prematurely closed`, `connect() failed`, `too big header`)",
    "openresty": ("its error log says why at that second (`upstream prematurely closed`, `connect() failed`, `too big header`)"),
    "haproxy": (
        "its log line has letters: SC (connection refused; with `<NOSRV>`: none was up), SH (closed in the head), sH (timeout "
        "server), sQ (its queue), PR (a rule denied it), PH"
    ),
    "envoy": "its access log has response flags: UF (connect), UC (closed), UH (no healthy host), UT (timeout), URX",
    "elb": (
        "its access log has target_status_code `-` and the target's address; see TargetResponseTime and UnHealthyHostCount too"
    ),
    "cloudfront": "its log has x-edge-detailed-result-type: OriginConnectError, OriginCommError …",
    "cloudflare": (
        "its status says why: 520 odd answer, 521 refused, 522 no connection, 523 unreachable, 524 timeout, 525 and 526 TLS"
    ),
    "traefik": "its log says `502 Bad Gateway caused by:` at level debug",
    "kubernetes_ingress": "see kubectl get endpointslices for the Service behind it, and the controller's log",
    "apache": "its error log says why: AH01102 (error reading status line), AH00957 (connect failed), AH01114",
    "varnish": "varnishlog -q 'BerespStatus >= 500' says FetchError and the backend",
    "caddy": "its log has `msg: dial tcp` or `EOF` with the upstream's address",
    "kong": "its error.log, and an X-Kong-Request-Id in the answer to find the line by",
    "pylae": "ask it: pylae explain ID there, with the id of its answer",
    "google": (
        "its log has statusDetails: failed_to_pick_backend, backend_connection_closed_before_data_sent_to_client, backend_timeout"
    ),
    "azure": "its access log has serverStatus and error info; see the backend health of the gateway",
}
"""Where each author says why."""
_MEANS: Final = {
    "bad_gateway_behind": ("bad_gateway", "it got no good answer from its own server (refused, closed, reset, or not HTTP)"),
    "unavailable_behind": (
        "unavailable",
        "it has no server for the request: none is healthy, all are drained or full, or none is named",
    ),
    "timeout_behind": ("timeout", "its own server did not answer it in time"),
}
_NO_SERVER: Final = {
    "nginx": (
        "it was told to answer so (`return 503`, maintenance), or limits requests or connections (limit_req, limit_conn); "
        "for a server that is down it would answer 502"
    ),
    "openresty": "it was told to answer so (`return 503`, Lua), or limits requests or connections (limit_req, limit_conn)",
    "haproxy": "no server took the request: none is up, all were full until its queue timed out, or a rule denied it",
    "envoy": "it could not reach its server, was cut off by it, or has none that is healthy or may take more",
    "kubernetes_ingress": "it has no endpoint for the request, or limits requests or connections",
    "apache": "it could not connect to its own server (mod_proxy does not say 502 to that), is full, or was told to answer so",
    "varnish": "it could not fetch the answer from its own server, or was told to answer so",
    "kong": "it has no healthy Target for the request, or one of its plugins answered so",
    "pylae": "it has no healthy Target for the request, or one of its plugins answered so",
}
"""What 503 means where it is not what `_MEANS` says."""
_CURES: Final = {
    "bad_gateway_behind": [
        (
            "check the server behind it: is it up, does it listen on that port, does it speak what is expected of "
            "it (http or https)?"
        ),
        "its keep-alive timeout above that of the load balancer's idle connections",
    ],
    "unavailable_behind": [
        "look at the health of its servers and at their health checks; a deployment or draining that left none",
        "too many requests: its limits of connections and queues",
    ],
    "timeout_behind": [
        "find what the server behind it waits for, or raise the timeout there; ours has to be above it",
    ],
}
_THIN: Final = ("caddy", "traefik", "kubernetes_ingress")
"""Authors that are told by little: an empty body, two words that an application could write too, or a missing field."""
_NAMELESS: Final = ("haproxy", "google")
"""Authors that put no name on their own pages."""
_PROXIES: Final = (
    *("nginx", "openresty", "envoy", "istio-envoy", "haproxy", "awselb", "cloudfront", "cloudflare", "traefik", "apache"),
    *("varnish", "caddy", "kong", "pylae", "google", "microsoft-azure", "squid", "akamai", "ats"),
)
"""How `Server` begins where something that stands before servers has set it."""
_STATUSES: Final = {
    501: "501 says that the server does not know the method",
    505: "505 says that the server does not serve this version of HTTP",
    507: "507 says that the server has no room left to store what it needs",
    508: "508 says that the server found a loop: the request came back to itself",
    511: "511 says that a network wants a login first: a captive portal or a proxy stands between",
}
"""What less common statuses mean."""
_NAMES: Final = {502: "bad_gateway", 503: "unavailable", 504: "timeout"}


def behind(case: Case) -> Finding:
    """`bad_gateway_behind`, `unavailable_behind`, `timeout_behind`."""
    fault, answer = case.fault or "", case.facts.answer
    name, means = _MEANS[fault]
    if fault == "unavailable_behind":
        means = _NO_SERVER.get(answer.written_by or "", means)
    status = case.attempt.status or case.facts.status
    evidence = [f"{case.server} answered {status}; the gateway passed it on as it came, and wrote nothing of it", *_seen(case)]
    author = LOAD_BALANCERS.get(answer.written_by or "")
    waited = case.attempt.head_ms
    if waited is not None:
        evidence.append(f"the answer came {ms(waited)} after the attempt began")
    seconds = round_seconds(waited if waited is not None and waited > 500 else None)
    if fault == "timeout_behind" and seconds is not None:
        evidence.append(f"so its timeout is probably {seconds} s")
    if fault == "timeout_behind" and case.facts.service and case.facts.service.read_timeout_ms is not None:
        evidence.append(f"ours (read_timeout of the Service) is {ms(case.facts.service.read_timeout_ms)}, and had not run out")
    if author is None:
        return _by_application(case, name, status, evidence)
    if _is_quoted(answer):
        evidence.append(f"it is JSON that quotes a page of {author}: whoever wrote it met that page further behind")
        return _by_application(case, name, status, evidence)
    return Finding(
        hop="second_lb",
        name=f"{name}_of_load_balancer",
        summary=f"This {status} was written by {author} behind the gateway, not by the gateway: {means}.",
        confidence=0.9 if _is_told(answer, fault) else 0.75,
        evidence=evidence,
        cure=[f"look into the log of {author} at {case.server}: {_LOGS[answer.written_by or 'nginx']}", *_CURES[fault]],
        probes=[case.ask_server(), "the same from the load balancer's machine to its server", case.doctor()],
    )


def _is_told(answer: AnswerFacts, fault: str = "") -> bool:
    """Is it sure who wrote it? A page can be passed on by an application that met it, which leaves no proxy's name on it."""
    author, mark = answer.written_by or "", answer.mark or ""
    # Apache is an application's own server as often as it is a proxy.
    if not mark or author in _THIN or (author == "apache" and fault == "unavailable_behind"):
        return False
    if not mark.startswith("body:"):
        return True
    return _names_proxy(answer) if answer.server or author not in _NAMELESS else True


def _names_proxy(answer: AnswerFacts) -> bool:
    """Does a field name something that stands before servers?"""
    via = (answer.via or "").lower()
    return (answer.server or "").lower().startswith(_PROXIES) or any(name in via for name in _PROXIES)


def _is_quoted(answer: AnswerFacts) -> bool:
    """Does the page of a load balancer stand in JSON, which these never write?"""
    is_json = "json" in (answer.content_type or "").lower()
    return is_json and answer.written_by not in ("kong", "pylae") and (answer.mark or "").startswith("body:")


def _seen(case: Case) -> list[str]:
    """What gave the author away."""
    answer, attempt = case.facts.answer, case.attempt
    lines = []
    if attempt.request_bytes is not None and attempt.sent_bytes is not None and attempt.sent_bytes < attempt.request_bytes:
        lines.append(
            f"it answered before it had the whole request: {size(attempt.sent_bytes)} of {size(attempt.request_bytes)} were sent"
        )
    if answer.mark:
        lines.append(f"told by: {escaped(answer.mark)}")
    fields = (
        ("Server", answer.server),
        ("Via", answer.via),
        ("Proxy-Status", answer.proxy_status),
        ("Content-Type", answer.content_type),
        ("Retry-After", answer.retry_after),
    )
    shown = ", ".join(f"{name}: {quoted(value, 80)}" for name, value in fields if value)
    if shown:
        lines.append(f"the answer had {shown}")
    return lines


def _by_application(case: Case, name: str, status: int | None, evidence: list[str]) -> Finding:
    answer = case.facts.answer
    is_known = answer.written_by == "application"
    is_json = "json" in (answer.content_type or "").lower()
    who = "an application" if is_known else "somebody who left no mark"
    again = (
        ["Retry-After came: whoever wrote it limits requests, is overloaded, or is in maintenance"] if answer.retry_after else []
    )
    return Finding(
        hop="upstream",
        name=f"{name}_of_application" if is_known else f"{name}_of_unknown",
        summary=f"This {status} came from {case.server} and was written by {who} behind the gateway, not by the gateway.",
        # A load balancer may have an error page in JSON too.
        confidence=0.75 if is_known and is_json else 0.7 if is_known else 0.6,
        evidence=evidence,
        cure=[
            *again,
            (
                "look into the server's log at that second: it may pass on that something which it calls failed, "
                "be overloaded, or be shutting down"
            ),
            "a load balancer with an error page of its own looks the same: look at what stands at that address",
        ],
        probes=[case.ask_server(), case.doctor()],
    )


def error(case: Case) -> Finding:
    """`upstream_error`."""
    answer = case.facts.answer
    status = case.attempt.status or case.facts.status
    author = LOAD_BALANCERS.get(answer.written_by or "")
    evidence = [f"{case.server} answered {status}; the gateway passed it on as it came", *_seen(case)]
    evidence += [_STATUSES[status]] if status in _STATUSES else []
    waited = case.attempt.head_ms
    if waited is not None and waited > 500:
        evidence += [f"the answer came {ms(waited)} after the attempt began", *known_timeout(round_seconds(waited))]
    if author is not None:
        is_edge = answer.written_by in ("cloudflare", "cloudfront", "elb", "google", "azure")
        return Finding(
            hop="second_lb" if is_edge else "upstream",
            name="error_of_load_balancer" if is_edge else "error_of_web_server",
            summary=f"This {status} was written by {author} behind the gateway.",
            confidence=0.85 if is_edge and _is_told(answer) else 0.7,
            evidence=evidence,
            cure=[f"look into its log at that second: {_LOGS[answer.written_by or 'nginx']}"],
            probes=[case.ask_server(), case.doctor()],
        )
    is_known = answer.written_by == "application"
    if status in _NAMES:
        # A load balancer's own error page looks like an application's.
        return _by_application(case, _NAMES[status], status, evidence)
    return Finding(
        hop="upstream",
        name="error_of_application",
        summary=f"The server at {case.server} itself failed on this request: it answered {status}.",
        # A proxy's name is on what it passes on, too; a page of its own may be the proxy's.
        confidence=0.85 if is_known and not _names_proxy(answer) else 0.75,
        evidence=evidence,
        cure=[
            "look into the server's log at that second, with the request id if it logs X-Kong-Request-Id",
            *_may_be_rewritten(case),
        ],
        probes=[case.ask_server(), case.doctor()],
    )


def _may_be_rewritten(case: Case) -> list[str]:
    names = list(dict.fromkeys(escaped(step.name) for step in case.facts.plugins if step.name and "transformer" in step.name))
    return [f"{', '.join(names)} may have changed what the server got: compare with a request made without"] if names else []


def plain_to_tls(case: Case) -> Finding:
    """`plain_http_to_tls_port`: the server says so itself."""
    evidence = [f"it answered {case.attempt.status or case.facts.status}", *_seen(case)]
    if case.is_over_tls or case.is_passed_on:
        return _plain_further_behind(case, evidence)
    changed = scheme_changed(case, "http", evidence)
    return changed or Finding(
        hop="upstream",
        name="plain_http_to_tls",
        summary=f"We spoke plain HTTP to {case.server}, and that port speaks TLS: it said so itself.",
        confidence=0.85,
        evidence=[*evidence, "the connection was not kept after it"],
        cure=[
            "call the Service over TLS:",
            case.patch_service(protocol="https"),
            "a load balancer there that passes on what its own server said would look alike, if it keeps no connections",
        ],
    )


def _plain_further_behind(case: Case, evidence: list[str]) -> Finding:
    """Whom we called is well, and passes on what its own server said to it."""
    if case.is_over_tls:
        shown = "we spoke TLS to it, so that the words are meant for somebody else"
        cure = ["the protocol of the Service is not the cause"]
    else:
        shown = "it keeps the connection, which a TLS port does not after plain HTTP: the words were passed on"
        cure = ["only if nothing stands between the gateway and that server:", case.patch_service(protocol="https")]
    return Finding(
        hop="second_lb",
        name="plain_http_to_tls_behind",
        summary=f"{case.server} spoke plain HTTP to a port behind it that speaks TLS, and passed on what that answered.",
        confidence=0.75,
        evidence=[*evidence, shown],
        cure=[
            "let the load balancer there speak TLS to its server (nginx: `proxy_pass https://`, HAProxy: `ssl` on the server "
            "line, an ingress: its backend-protocol), or call a port there that speaks plain HTTP",
            *cure,
        ],
        probes=[
            case.ask_server(),
            "the same from the load balancer's machine to its server, by http and by https",
            case.doctor(),
        ],
    )


def header_too_large(case: Case) -> Finding:
    """`header_too_large_behind`: a limit behind ours is lower than ours."""
    request, answer = case.facts.request, case.facts.answer
    header = request.largest_header
    name = quoted(header.name, 80) if header.name else "a header"
    author = LOAD_BALANCERS.get(answer.written_by or "")
    evidence = [f"{case.server} answered {case.attempt.status or case.facts.status}", *_seen(case)]
    if request.head_bytes is not None:
        evidence.append(f"the request's head has {size(request.head_bytes)}; the gateway takes {size(request.head_limit_bytes)}")
    if header.name:
        evidence.append(
            f"its largest header is {name} with {size(header.bytes)}; the gateway takes {size(request.header_limit_bytes)} a line"
        )
    return Finding(
        hop="second_lb" if author else "upstream",
        name="request_header_too_large_behind",
        summary=f"{author or 'The server'} at {case.server} takes no head as large as this request's: {name} has grown.",
        confidence=0.75,
        evidence=evidence,
        cure=[
            f"make {name} smaller (cookies and tokens grow), or let it end at the gateway with the plugin request-transformer",
            "or raise the limit there: nginx large_client_header_buffers (8 KiB a line), HAProxy tune.bufsize (16 KiB), "
            "gunicorn --limit-request-field_size (8190), Node --max-http-header-size (16 KiB), Tomcat maxHttpHeaderSize (8 KiB)",
        ],
        probes=[*_with_and_without(case), case.doctor()],
    )


def _with_and_without(case: Case) -> list[str]:
    """The request as it came, with something as large in place of the header, and without it."""
    request = case.facts.request
    header, method = request.largest_header, request.method or "GET"
    how = () if method == "GET" else ("--head",) if method == "HEAD" else ("-X", method)
    bare = case.ask_server(flags=how, host=request.host)
    if not header.name:
        return [bare, "the same with the header left out"]
    # Of the line that was measured, the name and `: ` are part.
    length = max(1, (header.bytes or 0) - len(header.name) - 2)
    begin = "curl -v "
    return [
        f"{begin}{calls.filled(header.name, length)} {bare.removeprefix(begin)}",
        "the same without that header:",
        bare,
    ]


RULES = {
    "bad_gateway_behind": behind,
    "unavailable_behind": behind,
    "timeout_behind": behind,
    "upstream_error": error,
    "plain_http_to_tls_port": plain_to_tls,
    "header_too_large_behind": header_too_large,
}
