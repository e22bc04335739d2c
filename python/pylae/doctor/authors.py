# SPDX-License-Identifier: Apache-2.0
"""Who wrote this answer? Told by what load balancers put into fields and bodies, and servers do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pylae.doctor.answers import Answer
from pylae.explain.case import LOAD_BALANCERS


@dataclass(frozen=True, slots=True)
class Author:
    """Who, and what gave it away; `stands_between`: the answer came through it, whoever wrote it."""

    name: str
    mark: str = ""
    stands_between: str | None = None


def _server(pattern: str) -> Callable[[Answer], str | None]:
    wanted = re.compile(pattern, re.IGNORECASE)

    def find(answer: Answer) -> str | None:
        server = answer.header("server") or ""
        return f"Server: {server[:60]}" if wanted.match(server) else None

    return find


def _header(name: str) -> Callable[[Answer], str | None]:
    return lambda answer: name if answer.header(name) is not None else None


def _body(pattern: bytes, mark: str) -> Callable[[Answer], str | None]:
    wanted = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return lambda answer: mark if wanted.search(answer.body[:4096]) else None


_HAPROXY_BODY: Final = rb"\A<html><body><h1>\d{3} [^<]+</h1>\n[^<]+\n</body></html>"
_ERRORS: Final[tuple[tuple[str, Callable[[Answer], str | None]], ...]] = (
    ("cloudfront", _server(r"CloudFront")),
    ("cloudflare", _server(r"cloudflare")),
    ("elb", _server(r"awselb")),
    ("varnish", _body(rb"<title>\d{3} .{0,80}</title>.*Guru Meditation", "the body says Guru Meditation")),
    ("google", _body(rb"Error: Server Error</h1>.*server encountered a temporary error", "Google's error page")),
    ("azure", _server(r"Microsoft-Azure-Application-Gateway")),
    ("openresty", _body(rb"<hr><center>openresty", "openresty's error page")),
    ("nginx", _body(rb"<hr><center>nginx", "nginx's error page")),
    ("haproxy", _body(_HAPROXY_BODY, "HAProxy's error page")),
    ("envoy", _body(rb"\A(upstream connect error or disconnect|no healthy upstream|upstream request timeout)", "Envoy's words")),
    ("traefik", _body(rb"\A(Bad Gateway|Gateway Timeout|Service Unavailable|no available server)\n?\Z", "Traefik's words")),
    ("apache", _body(rb"proxy server received an invalid|<address>Apache", "Apache's error page")),
    ("kong", _body(rb"An invalid response was received from the upstream server", "Kong's words")),
    ("kubernetes_ingress", _body(rb"\Adefault backend - 404", "the ingress' default backend")),
    ("envoy", _server(r"(istio-)?envoy")),
)
_BETWEEN: Final[tuple[tuple[str, Callable[[Answer], str | None]], ...]] = (
    ("cloudfront", _header("x-amz-cf-id")),
    ("cloudflare", _header("cf-ray")),
    ("elb", _server(r"awselb")),
    ("envoy", _header("x-envoy-upstream-service-time")),
    ("envoy", _server(r"(istio-)?envoy")),
    ("varnish", _header("x-varnish")),
    ("kong", _header("x-kong-upstream-latency")),
    ("kong", _server(r"kong/")),
    ("pylae", _server(r"pylae/")),
    ("haproxy", _server(r"haproxy")),
    ("openresty", _server(r"openresty")),
    ("nginx", _server(r"nginx")),
    ("caddy", _server(r"caddy")),
    ("apache", _server(r"Apache")),
    ("google", _server(r"(Google Frontend|gws)")),
)
_VIA: Final = re.compile(r"(?:[\d.]+|[A-Za-z]+/[\d.]+)\s+([^\s,(]+)")


def between(answer: Answer) -> tuple[str, str] | None:
    """What the answer came through, and its mark: a load balancer, or a server of the same make."""
    for name, find in _BETWEEN:
        if mark := find(answer):
            return name, mark
    if (via := answer.header("via")) and (names := _VIA.findall(via)):
        return next((name for name in LOAD_BALANCERS if name in names[-1].lower()), names[-1][:40]), f"Via: {via[:60]}"
    return None


def author_of(answer: Answer) -> Author:
    """Who wrote an answer of an error; `unknown` where nothing tells."""
    passed = between(answer)
    came_through = passed[0] if passed else None
    for name, find in _ERRORS:
        if mark := find(answer):
            return Author(name, mark, came_through)
    encoding = answer.header("content-encoding")
    if answer.body and not encoding:
        return Author("application", "a body of its own shape", came_through)
    return Author("unknown", "", came_through)


# === what servers say when they are spoken to in the wrong way ===

_TOLD_PLAIN: Final = re.compile(
    rb"plain HTTP request was sent to HTTPS port|sent an HTTP request to an HTTPS server|speaking plain HTTP to an SSL-enabled"
    rb"|This combination of host and port requires TLS|plain HTTP.{0,40}(TLS|SSL|HTTPS) port",
    re.IGNORECASE,
)
_TOLD_NO_CERTIFICATE: Final = re.compile(rb"No required SSL certificate was sent|The SSL certificate error", re.IGNORECASE)


def says_it_wants_tls(answer: Answer) -> bool:
    """Whether a server tells that plain HTTP came to a TLS port."""
    return answer.status in (400, 497, 426) and _TOLD_PLAIN.search(answer.body) is not None


def says_it_wants_a_certificate(answer: Answer) -> bool:
    """Whether a server tells that a client certificate was missing or wrong."""
    return answer.status in (400, 403, 495, 496) and _TOLD_NO_CERTIFICATE.search(answer.body) is not None
