# SPDX-License-Identifier: Apache-2.0
"""Who wrote this 5xx?"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.bed import Bed, hangs, reply, sends
from tests.matrix.case import FRESH, PLAIN, TLS_FRESH, Broken, Variant, cause, right
from tests.support.ports import free_port
from tests.support.servers.node import Node

GROUP = "load balancers"
JSON = "Content-Type: application/json"
HTML = "Content-Type: text/html"


def _answering(bed: Bed, variant: Variant, data: bytes) -> Iterator[Broken]:
    with bed.faulty(variant, sends(data, hangs)) as broken:
        yield broken


@cause(
    GROUP,
    "AWS ELB behind has no answer (502)",
    right("second_lb", "bad_gateway_behind", "ELB|load balancer"),
    PLAIN,
    is_fast=True,
)
def elb_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
        b"</body>\r\n</html>\r\n"
    )
    yield from _answering(bed, variant, reply("502 Bad Gateway", body, "Server: awselb/2.0", HTML))


@cause(GROUP, "AWS ELB behind has no healthy target (503)", right("second_lb", "unavailable_behind", "ELB|load balancer"))
def elb_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"
        b"<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    yield from _answering(bed, variant, reply("503 Service Temporarily Unavailable", body, "Server: awselb/2.0", HTML))


@cause(GROUP, "AWS ELB behind: its target is too slow (504)", right("second_lb", "timeout_behind", "ELB|load balancer"))
def elb_504(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n"
        b"<center><h1>504 Gateway Time-out</h1></center>\r\n"
        b"</body>\r\n</html>\r\n"
    )
    yield from _answering(bed, variant, reply("504 Gateway Time-out", body, "Server: awselb/2.0", HTML))


@cause(
    GROUP,
    "Envoy behind can't reach its server (503)",
    right("second_lb", "unavailable_behind", "Envoy"),
    (FRESH, TLS_FRESH),
    is_fast=True,
)
def envoy_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"upstream connect error or disconnect/reset before headers. reset reason: connection failure, "
        b"transport failure reason: delayed connect error: 111"
    )
    yield from _answering(bed, variant, reply("503 Service Unavailable", body, "content-type: text/plain", "server: envoy"))


@cause(GROUP, "Envoy behind waits in vain (504)", right("second_lb", "timeout_behind", "Envoy"))
def envoy_504(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("504 Gateway Timeout", b"upstream request timeout", "content-type: text/plain", "server: envoy")
    yield from _answering(bed, variant, data)


@cause(GROUP, "Cloudflare behind (502)", right("second_lb", "bad_gateway_behind", "Cloudflare"), is_fast=True)
def cloudflare_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
        b"<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    )
    data = reply("502 Bad Gateway", body, "Server: cloudflare", "CF-RAY: 8f0a1b2c3d4e5f60-FRA", HTML)
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "Traefik behind (502, two words and no Server)",
    # Two words of plain text are little to know an author by.
    right("second_lb", "bad_gateway_behind", unsure="upstream"),
    is_fast=True,
)
def traefik_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, reply("502 Bad Gateway", b"Bad Gateway"))


@cause(GROUP, "a Kubernetes ingress without endpoints (503)", right("second_lb", "unavailable_behind", "nginx|ingress"))
def ingress_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"
        b"<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    yield from _answering(bed, variant, reply("503 Service Temporarily Unavailable", body, HTML))


@cause(
    GROUP, "Varnish behind: backend fetch failed (503)", right("second_lb", "unavailable_behind", "Varnish", unsure="upstream")
)
def varnish_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = (
        b"<!DOCTYPE html>\n<html>\n  <head>\n    <title>503 Backend fetch failed</title>\n  </head>\n  <body>\n"
        b"    <h1>Error 503 Backend fetch failed</h1>\n    <p>Backend fetch failed</p>\n    <h3>Guru Meditation:</h3>\n"
        b"    <p>XID: 32770</p>\n    <hr>\n    <p>Varnish cache server</p>\n  </body>\n</html>\n"
    )
    data = reply("503 Backend fetch failed", body, "Server: Varnish", "Via: 1.1 varnish (Varnish/7.1)", "X-Varnish: 32770", HTML)
    yield from _answering(bed, variant, data)


@cause(GROUP, "the application fails (500, JSON)", right("upstream", "upstream_error"), PLAIN, is_fast=True)
def application_500(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("500 Internal Server Error", b'{"error":"division by zero"}', JSON, "Server: gunicorn")
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "the application is not ready (503, JSON)",
    # Both names fit a server that answers 503 itself.
    right("upstream", "unavailable_behind upstream_error", unsure="second_lb"),
    is_fast=True,
)
def application_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("503 Service Unavailable", b'{"error":"warming up","retry":true}', JSON, "Retry-After: 5")
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "an empty 502 of nobody",
    # Written by the server under test here, and by an author that left no mark as seen from the gateway.
    right("", "bad_gateway_behind", unsure="upstream second_lb"),
    PLAIN,
    is_fast=True,
)
def anonymous_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, reply("502 Bad Gateway"))


@cause(
    GROUP,
    "a real Node server finds the request's header too large (431)",
    right("upstream", "header_too_large_behind", "header", unsure="second_lb"),
    is_fast=True,
)
def node_431(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    with Node(port):
        # Each line is within our limit of 8 KiB, all together above Node's of 16 KiB.
        yield Broken(f"http://127.0.0.1:{port}/", lines=tuple(f"X-Token-{number}: {'a' * 6_000}" for number in range(3)))


@cause(
    GROUP,
    "Kong behind found its server's answer invalid (502)",
    right("second_lb", "bad_gateway_behind", "Kong"),
    is_fast=True,
)
def kong_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = b'{"message":"An invalid response was received from the upstream server"}'
    yield from _answering(bed, variant, reply("502 Bad Gateway", body, JSON, "Server: kong/3.9.1", "Via: 1.1 kong/3.9.1"))


@cause(
    GROUP,
    "an API gateway behind answers 503 in JSON, and says its name nowhere",
    # An application could have written the same.
    right("second_lb", "unavailable_behind upstream_error", unsure="upstream"),
    is_fast=True,
)
def api_gateway_503(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("503 Service Unavailable", b'{"message": "Service Unavailable"}', JSON, "Connection: keep-alive")
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "an API gateway behind answers 502 in JSON, and says its name nowhere",
    right("second_lb", "bad_gateway_behind upstream_error", unsure="upstream"),
)
def api_gateway_502(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("502 Bad Gateway", b'{"message": "Internal server error"}', JSON, "Connection: keep-alive")
    yield from _answering(bed, variant, data)
