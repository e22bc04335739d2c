# SPDX-License-Identifier: Apache-2.0
"""What did the client, or what stands between it and us, do wrong?"""

from __future__ import annotations

from typing import Final

from pylae.explain import banners, calls
from pylae.explain.case import Case, Finding
from pylae.explain.facts import PluginStep
from pylae.explain.rules.exchange import known_timeout
from pylae.explain.words import escaped, ms, quoted, round_seconds, size

MOST_SURE_OF_FIRST_LB: Final = 0.7
"""Nothing that we see tells whether the first load balancer gave up, or passed on that its client had."""
LATE_MS: Final = 1000.0
"""A connection or a handshake that is not made within this time is late, wherever the server stands."""
_OF_PROXIES: Final = ("x-forwarded-", "x-client-cert", "x-ssl-", "ssl-client-", "x-amzn-", "client-cert", "forwarded", "via")
"""How headers begin that a load balancer adds: addresses, and the client's certificate."""
_SPEECH: Final = {
    "bad_framing": (
        "bad_request_head",
        "sent a request that is not one well-formed message",
        (
            "mend the client, or the proxy before us that wrote it: two parties may read such a request in two "
            "ways, so it is not taken"
        ),
    ),
    "version_not_supported": (
        "version_not_supported",
        "asked in a version of HTTP that is not served here",
        "let the client, or the load balancer before us, speak HTTP/1.1 here",
    ),
    "transfer_encoding_not_supported": (
        "transfer_encoding_not_supported",
        "sent a body in a transfer coding other than `chunked`",
        "let the client send `Transfer-Encoding: chunked` alone; a compressed body is said by Content-Encoding",
    ),
    "method_not_allowed": (
        "method_not_allowed",
        "used a method that is not served: {method}",
        "use another method: TRACE shows a client the headers that proxies added, so it is not passed on",
    ),
}
"""What is wrong with how the client speaks: the finding, in words, and a cure."""


def _by(case: Case, hop: str, confidence: float) -> tuple[str, float, list[str]]:
    """The hop, how sure, and what shows it: less sure where something stands between."""
    signs = case.signs_of_first_lb()
    if not signs and case.facts.client.is_trusted:
        # A load balancer that adds no field would look the same.
        return hop, min(confidence, 0.7), [f"the peer {quoted(case.facts.client.peer)} is among `trusted_ips`"]
    if not signs:
        return hop, confidence, []
    return hop, min(confidence, 0.7), [f"something stands before us: {'; '.join(signs)}"]


def gone(case: Case) -> Finding:
    """`client_gone`."""
    facts = case.facts
    after = facts.client.departed_after_ms or facts.duration_ms
    signs = case.signs_of_first_lb()
    seconds = round_seconds(after)
    evidence = [f"the connection from {quoted(facts.client.peer)} ended {ms(after)} after the request came", *_state(case)]
    if case.detail:
        evidence.append(f"found: {escaped(case.detail)}")
    plugin = _slow_plugin(case, after)
    if plugin is not None:
        return _plugin_was_slow(case, plugin, after, evidence)
    if case.facts.phase in ("read_request", "read_body") or "request's head" in case.detail or _is_body_missing(case):
        return Finding(
            hop="client",
            name="gone_while_sending",
            summary="The client closed the connection before its request was whole.",
            confidence=0.6 if signs else 0.7,
            evidence=evidence,
            cure=["look at the client (or at what stands before us): it was stopped, or gave up while it was sending"],
            probes=["the log of what stands before us, at that second"],
        )
    if case.unmade is not None:
        return _unmade(case, case.unmade, after, evidence)
    evidence += known_timeout(seconds)
    slow = _slow_cure(case, seconds, after)
    if signs:
        return Finding(
            hop="first_lb",
            name="first_lb_gave_up",
            summary=(
                f"What stands before the gateway closed the connection after {ms(after)}, before it had the answer: "
                f"{'its timeout, by the round number' if seconds else 'its timeout, or its client went'}."
            ),
            confidence=MOST_SURE_OF_FIRST_LB if seconds else 0.6,
            evidence=[*evidence, f"something stands before us: {'; '.join(signs)}"],
            cure=["let the load balancer before us wait longer than the gateway may (read_timeout, for each attempt)", *slow],
            probes=[
                (
                    "the log of the load balancer before us at that second (HAProxy: sH or CD; ELB: 460 is the "
                    "client, 504 its own timeout)"
                ),
                case.doctor_of_hops(),
            ],
        )
    return Finding(
        hop="client",
        name="client_gave_up",
        summary=f"The client closed the connection after {ms(after)}, before it had the answer.",
        confidence=0.65 if seconds else 0.7,
        evidence=evidence,
        cure=["let the client wait longer, or answer sooner", *slow, *_half_closed(after)],
        probes=["a load balancer in TCP mode before us would look the same: does one stand there?", case.doctor_of_hops()],
    )


def _is_body_missing(case: Case) -> bool:
    """Was the client still sending its body, which went on to the upstream as it came?"""
    request, attempt = case.facts.request, case.attempt
    if not case.facts.attempts or attempt.sent_ms is not None or attempt.status is not None:
        return False
    told = request.header("content-length") or ""
    if told.isascii() and told.isdigit() and len(told) <= 15:
        return request.body_bytes is not None and request.body_bytes < int(told)
    # A chunked one has no length; of little that was sent nothing can be stuck on the way.
    return request.header("transfer-encoding") is not None and 0 < (attempt.sent_bytes or 0) < 65_536


def _state(case: Case) -> list[str]:
    """What was being done for it."""
    facts, attempt = case.facts, case.attempt
    if not facts.attempts:
        return ["no attempt at the upstream had begun"]
    if attempt.status is not None or facts.milestones.head_ms is not None:
        return [f"the answer ({attempt.status or facts.status}) was on its way: {size(facts.sent_bytes)} had been sent"]
    begun = attempt.offset_ms
    since = None if begun is None else (facts.client.departed_after_ms or facts.duration_ms or 0.0) - begun
    if case.unmade == "connect":
        tried = "" if since is None or since < 0 else f" {ms(since)} before"
        return [f"connecting to {case.server} had begun{tried}, and no answer to our SYN had come"]
    if case.unmade == "tls_handshake":
        left = None if since is None else since - (attempt.connect_ms or 0.0)
        shaking = "" if left is None or left < 0 else f" {ms(left)} before"
        return [
            f"TCP to {case.server} was connected in {ms(attempt.connect_ms)}",
            f"the TLS handshake had begun{shaking} and was not over; nothing of the request had been sent",
        ]
    if since is None or since < 0:
        return [f"{case.server} had not answered"]
    return [f"{case.server} had been asked {ms(since)} before and had not answered"]


def _unmade(case: Case, unmade: str, after: float | None, evidence: list[str]) -> Finding:
    """It left before the connection was made on which the upstream could be asked: read_timeout bounds none of this."""
    signs = case.signs_of_first_lb()
    who = "what stands before the gateway" if signs else "the client"
    # No server takes a second for this; a client that left sooner may only have been in a hurry.
    is_late = after is not None and after - (case.attempt.offset_ms or 0.0) >= LATE_MS
    sooner = []
    if after is not None and after >= 600:
        limit = int((round_seconds(after) or after / 1000) * 1000 * 0.9)
        sooner = [
            "or let the gateway give up before its caller does, so that the client gets an answer and you a cause:",
            case.patch_service(connect_timeout=limit, retries=0),
        ]
    if unmade == "tls_handshake":
        name, hop = "gone_in_tls_handshake", "upstream"
        silence = "took the connection and did not answer our TLS hello: it may not speak TLS, or hang"
        cure = [
            "if the port speaks plain HTTP:",
            case.patch_service(protocol="http"),
            "else look whether the server hangs",
            *sooner,
        ]
        probes = [calls.show_certificate(case.address, case.attempt.host), case.ask_server(scheme="http"), case.doctor()]
    else:
        name, hop = "gone_while_connecting", "upstream" if case.is_loopback else "network"
        silence = "did not answer our SYN: " + (
            "its accept queue is full, or it hangs"
            if case.is_loopback
            else "a firewall drops our packets, the address is wrong, or its accept queue is full"
        )
        cure = [
            "let the gateway through the firewalls and security groups between; check the address:",
            case.patch_target(host="HOST"),
            "a server under such load that it takes no connection: give it more workers and a longer accept queue",
            *sooner,
        ]
        probes = [
            calls.reach(case.address),
            "on that machine: ss -ltn (Recv-Q at Send-Q: its accept queue is full)",
            case.doctor(),
        ]
    step = "our TLS hello" if unmade == "tls_handshake" else "our SYN"
    return Finding(
        hop=hop if is_late else "first_lb" if signs else "client",
        name=name,
        summary=(
            f"{case.server} {silence}; {who} left after {ms(after)}."
            if is_late
            else f"{who[0].upper()}{who[1:]} closed the connection after {ms(after)}, before {case.server} had answered {step}."
        ),
        confidence=0.65,
        evidence=[*evidence, *([f"something stands before us: {'; '.join(signs)}"] if signs else [])],
        cure=cure,
        probes=probes,
    )


def _half_closed(after: float | None) -> list[str]:
    """What a client that leaves at once may have meant."""
    if after is None or after > 100:
        return []
    return [
        "a client that ends its own side right after the request (`nc -N`, shutdown) counts as gone, as with nginx: let it keep "
        "the connection until it has the answer"
    ]


def _slow_cure(case: Case, seconds: int | None, after: float | None) -> list[str]:
    """The other end of it: the upstream takes too long."""
    if not case.facts.attempts or after is None or after < 500:
        return []
    limit = max(500, int((seconds or after / 1000) * 1000 * 0.9))
    return [
        f"find why {case.server} takes so long",
        "or let the gateway give up first, so that the client gets an answer:",
        case.patch_service(read_timeout=limit, retries=0),
    ]


def _slow_plugin(case: Case, after: float | None) -> PluginStep | None:
    """The plugin in which most of the time went."""
    if after is None:
        return None
    steps = [step for step in case.facts.plugins if step.took_us is not None]
    slowest = max(steps, key=lambda step: step.took_us or 0.0, default=None)
    if slowest is None or (slowest.took_us or 0.0) / 1000 < max(0.5 * after, 100.0):
        return None
    return slowest


def _plugin_was_slow(case: Case, step: PluginStep, after: float | None, evidence: list[str]) -> Finding:
    took = (step.took_us or 0.0) / 1000
    waited = "it waited for something" if step.waited else "it held the worker, so that nothing else was served"
    return Finding(
        hop="plugin",
        name="plugin_slow" if step.waited else "plugin_blocks",
        summary=f"The client left while the plugin {quoted(step.name)} was at work: {ms(took)} of {ms(after)}.",
        confidence=0.75,
        evidence=[*evidence, f"{quoted(step.name)} took {ms(took)} in {escaped(step.phase or '?')}; {waited}"],
        cure=[
            (
                "look at what the plugin waits for (an identity provider, a store), and at its own timeout; to see "
                "what happens without it:"
            ),
            case.patch_plugin(step, enabled=False),
        ],
        probes=[case.doctor()],
    )


def bad_framing(case: Case) -> Finding:
    """`bad_framing`, `version_not_supported`, `transfer_encoding_not_supported`, `method_not_allowed`."""
    first = banners.unescaped(case.facts.request.line)
    found = [f"found: {escaped(case.detail)}"] if case.detail else []
    line = [f"the request began with {quoted(case.facts.request.line, 80)}"] if case.facts.request.line else []
    if "plain http came in on a tls port" in case.hints:
        hop, confidence, signs = _by(case, "client", 0.85)
        return Finding(
            hop=hop,
            name="plain_http_on_tls_port",
            summary="The client spoke plain HTTP to a TLS port of the gateway.",
            confidence=confidence,
            evidence=[*found, *signs],
            cure=[
                "call https://, or the plain port of `proxy_listen`",
                "a load balancer before us: let it speak https to this port",
            ],
            probes=["does a load balancer stand before us, and which port does it call?"],
        )
    if "%2f decoded leads to another route" in case.hints:
        return Finding(
            hop="client",
            name="path_goes_round",
            summary="The path has an escaped slash; who decodes it takes it for another Route's, which other plugins guard.",
            confidence=0.9,
            evidence=[*line, *found],
            cure=[
                "send the path without %2F",
                "if %2F is part of a name here, give both Routes the same plugins (on their Service, or global)",
            ],
        )
    if first[:2] == b"\x16\x03":
        return Finding(
            hop="client",
            name="tls_on_plain_port",
            summary="The client spoke TLS to a plain port of the gateway.",
            confidence=0.75,
            evidence=[*line, "16 03 begins a TLS handshake"],
            cure=[
                "call http://, or the port of `proxy_listen` that has ssl",
                "a load balancer before us: let it speak http to this port",
            ],
            probes=["does a load balancer stand before us, and which port does it call?"],
        )
    is_second = first == b"\x00" or first.startswith(b"\x00\r\nQUIT\n")
    if first.startswith(b"PROXY ") or is_second:
        # The signature of version 2 is CRLF CRLF NUL CRLF QUIT LF; empty lines before a request are dropped.
        return Finding(
            hop="first_lb",
            name="proxy_protocol_unexpected",
            summary="What stands before the gateway sends the PROXY protocol, and this port does not expect it.",
            confidence=0.75 if is_second else 0.85,
            evidence=[*line, *(["a zero byte, then QUIT, is the signature of its version 2"] if is_second else [])],
            cure=[
                "turn it off at the load balancer (HAProxy: send-proxy, send-proxy-v2; an AWS network load balancer: "
                "proxy_protocol_v2); this version of the gateway does not take it",
                "the client's address comes by X-Forwarded-For then: `trusted_ips`, `real_ip_header`",
            ],
            probes=["does a load balancer stand before us that is set to send the PROXY protocol?"],
        )
    if first.startswith(b"PRI * HTTP/2"):
        return Finding(
            hop="client",
            name="http2_prior_knowledge",
            summary="The client began with HTTP/2 on a port that speaks HTTP/1.1.",
            confidence=0.75,
            evidence=line,
            cure=["let the client, or the load balancer before us, speak HTTP/1.1 here"],
            probes=["does a load balancer stand before us that is set to HTTP/2 towards its servers?"],
        )
    hop, confidence, signs = _by(case, "client", 0.85)
    name, words, cure = _SPEECH.get(case.fault or "", _SPEECH["bad_framing"])
    return Finding(
        hop=hop,
        name=name,
        summary=f"The client {words.format(method=quoted(case.facts.request.method, 40))}.",
        confidence=confidence,
        evidence=[*found, *line, *signs],
        cure=[cure],
        probes=["the same request without what stands before us"] if signs else [],
    )


def bad_body(case: Case) -> Finding:
    """`bad_request_body`."""
    hop, confidence, signs = _by(case, "client", 0.85)
    return Finding(
        hop=hop,
        name="bad_request_chunk",
        summary="The client sent a chunked body that breaks the rules of chunks.",
        confidence=confidence,
        evidence=[*([f"found: {escaped(case.detail)}"] if case.detail else []), *signs],
        cure=["mend what writes the chunks: a hexadecimal size, CRLF, so many bytes, CRLF, and a chunk of size 0 at the end"],
        probes=["the same request without what stands before us"] if signs else [],
    )


def header_too_large(case: Case) -> Finding:
    """`request_header_too_large`."""
    request = case.facts.request
    header = request.largest_header
    name = quoted(header.name, 80) if header.name else "a header"
    evidence = [f"found: {escaped(case.detail)}"] if case.detail else []
    whole = (
        [f"{size(request.head_bytes)} of a head had come; a whole head may have {size(request.head_limit_bytes)}"]
        if request.head_bytes is not None
        else []
    )
    line = (
        [f"a line of a head may have {size(request.header_limit_bytes)}, and its largest, {name}, has {size(header.bytes)}"]
        if header.name
        else []
    )
    # The limit that counted comes first.
    is_whole = (request.head_bytes or 0) > (request.head_limit_bytes or 0) and (header.bytes or 0) <= (
        request.header_limit_bytes or 0
    )
    evidence += [*whole, *line] if is_whole else [*line, *whole]
    hop, confidence, signs = _by(case, "client", 0.85)
    if (header.name or "").lower().startswith(_OF_PROXIES):
        hop, confidence = "first_lb", 0.7
        signs = signs or [f"{name} is a header that proxies set, and clients seldom"]
    who = "What stands before the gateway" if hop == "first_lb" else "The client"
    return Finding(
        hop=hop,
        name="request_header_too_large",
        summary=f"{who} sent a head that is larger than the gateway takes: {name} has grown.",
        confidence=confidence,
        evidence=[*evidence, *signs],
        probes=["the log of what stands before us: the head as the client sent it"] if confidence < 0.8 else [],
        cure=[
            f"make {name} smaller: cookies of the whole domain, tokens with many claims",
            "or raise `nginx_http_large_client_header_buffers` (number and size, 4 8k) in kong.conf, then:",
            "pylae reload",
            "what stands behind has limits of its own",
        ],
    )


def uri_too_long(case: Case) -> Finding:
    """`uri_too_long`."""
    return Finding(
        hop="client",
        name="uri_too_long",
        summary="The client sent a request line that is longer than the gateway takes.",
        confidence=0.9,
        evidence=[
            f"{size(case.facts.request.received_bytes)} had come; a line may have {size(case.facts.request.header_limit_bytes)}"
        ],
        cure=[
            "send long parameters in a body",
            "or raise `nginx_http_large_client_header_buffers` (number and size, 4 8k) in kong.conf, then:",
            "pylae reload",
        ],
    )


def body_too_large(case: Case) -> Finding:
    """`request_body_too_large`."""
    request = case.facts.request
    told = request.header("content-length")
    evidence = [f"Content-Length says {quoted(told, 40)}"] if told else []
    if request.body_bytes is not None:
        evidence.append(f"{size(request.body_bytes)} of the body had come")
    return Finding(
        hop="client",
        name="request_body_too_large",
        summary="The client sends a body that is larger than the gateway takes (`client_max_body_size`).",
        confidence=0.9,
        evidence=evidence or ["the body passed the limit while it was read"],
        cure=[
            "raise `nginx_http_client_max_body_size` in kong.conf (0 is no limit), then:",
            "pylae reload",
            "or send less at once",
        ],
    )


def request_timeout(case: Case) -> Finding:
    """`request_timeout`."""
    request, signs = case.facts.request, case.signs_of_first_lb()
    in_body = "body" in case.detail
    after = case.facts.duration_ms
    is_mute = not in_body and not request.line
    no_line = (
        ["not even a request line came: a client that speaks TLS to this plain port, or no HTTP, looks so"] if is_mute else []
    )
    return Finding(
        hop="client",
        name="client_silent_in_body" if in_body else "client_silent_in_head",
        summary=(
            f"The client fell silent in the middle of its request's {'body' if in_body else 'head'}, and the "
            "gateway gave up on it."
        ),
        confidence=0.6 if signs else 0.7,
        evidence=[
            f"{size(request.received_bytes)} had come in {ms(after)}",
            *([f"found: {escaped(case.detail)}"] if case.detail else []),
            *([f"something stands before us: {'; '.join(signs)}"] if signs else []),
        ],
        cure=[
            "look at the client's network, and at a Content-Length larger than the body it sends",
            *no_line,
            ("a slow upload: raise `nginx_http_client_body_timeout` or `nginx_http_client_header_timeout` in kong.conf, then:"),
            "pylae reload",
        ],
        probes=["the log of what stands before us at that second", case.doctor_of_hops()],
    )


def tls_failed(case: Case) -> Finding:
    """`client_tls_failed`."""
    return Finding(
        hop="client",
        name="client_tls_failed",
        summary="The TLS handshake of the client with the gateway failed.",
        confidence=0.7,
        evidence=[f"found: {escaped(case.detail)}"] if case.detail else [],
        cure=[
            "see what the gateway shows; its certificate is that of `ssl_cert` and `ssl_cert_key` in kong.conf",
            "a client older than TLS 1.2, or one that does not know the authority of that certificate, ends the handshake so",
        ],
        probes=[calls.show_certificate("GATEWAY:8443", "NAME")],
    )


RULES = {
    "client_gone": gone,
    "bad_framing": bad_framing,
    "version_not_supported": bad_framing,
    "transfer_encoding_not_supported": bad_framing,
    "method_not_allowed": bad_framing,
    "bad_request_body": bad_body,
    "request_header_too_large": header_too_large,
    "uri_too_long": uri_too_long,
    "request_body_too_large": body_too_large,
    "request_timeout": request_timeout,
    "client_tls_failed": tls_failed,
}
