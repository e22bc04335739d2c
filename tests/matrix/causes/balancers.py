# SPDX-License-Identifier: Apache-2.0
"""What do real load balancers behind and before the gateway do to requests?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.matrix.bed import LOAD_BALANCER, LONG, Bed, Fault, fin, hangs, reply, sends
from tests.matrix.case import ALL, BOTH_SCHEMES, FRESH, PLAIN, Broken, Variant, cause, right
from tests.support.origin import Connection, good
from tests.support.ports import free_port
from tests.support.servers.haproxy import GLOBAL, Haproxy
from tests.support.servers.nginx import Nginx

GROUP = "load balancers"


# === nginx behind ===


@contextmanager
def _nginx(bed: Bed, variant: Variant, location: str, more: str = "") -> Iterator[Broken]:
    """It answers 200 under /ok, and the rest by this location."""
    port = free_port()
    tls = (
        f"ssl; ssl_certificate {bed.certificate.certificate}; ssl_certificate_key {bed.certificate.key}"
        if variant.scheme == "https"
        else ""
    )
    server = f"{more} server {{ listen 127.0.0.1:{port} {tls}; location /ok {{ return 200 ok; }} location / {{ {location} }} }}"
    with Nginx(server, [port]):
        yield Broken(f"{variant.scheme}://127.0.0.1:{port}/")


def _behind_nginx(bed: Bed, variant: Variant, fault: Fault, more: str = "") -> Iterator[Broken]:
    with bed.faulty(FRESH, fault) as origin, _nginx(bed, variant, f"proxy_pass {origin.url}; {more}") as broken:
        assert origin.armed
        origin.armed.set()
        yield broken


@cause(
    GROUP,
    "nginx behind finds its server refused (502)",
    right("second_lb", "bad_gateway_behind", "nginx"),
    ALL,
    is_fast=True,
)
def nginx_refused(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _nginx(bed, variant, f"proxy_pass http://127.0.0.1:{free_port()};") as broken:
        yield broken


@cause(GROUP, "nginx behind: its server closes early (502)", right("second_lb", "bad_gateway_behind", "nginx"), BOTH_SCHEMES)
def nginx_closed_early(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_nginx(bed, variant, sends(b"", fin))


@cause(
    GROUP,
    "nginx behind waits for its server in vain (504)",
    right("second_lb", "timeout_behind", "nginx"),
    BOTH_SCHEMES,
)
def nginx_timeout(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_nginx(bed, variant, sends(b"", hangs), "proxy_read_timeout 200ms;")


@cause(GROUP, "nginx behind is in maintenance (503)", right("second_lb", "unavailable_behind", "nginx"), PLAIN)
def nginx_maintenance(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _nginx(bed, variant, "return 503;") as broken:
        yield broken


@cause(GROUP, "nginx behind limits the rate (503)", right("second_lb", "unavailable_behind", "nginx"))
def nginx_rate_limit(bed: Bed, variant: Variant) -> Iterator[Broken]:
    zone = "limit_req_zone $binary_remote_addr zone=slow:64k rate=1r/m;"
    with (
        bed.behind(good) as origin,
        _nginx(bed, variant, f"limit_req zone=slow; proxy_pass {origin.url};", zone) as broken,
    ):
        assert bed.gateway.get(bed.blueprints.path(broken.url)).status == 200
        yield broken


@cause(
    GROUP,
    "nginx behind takes smaller request headers than we (400)",
    right("second_lb upstream", "header_too_large_behind", "X-Token|header"),
    PLAIN,
    is_fast=True,
)
def nginx_header_too_large(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _nginx(bed, variant, "return 200;", "large_client_header_buffers 2 1k;") as broken:
        broken.lines = ("X-Token: " + "a" * 3_000,)
        yield broken


@cause(
    GROUP,
    "nginx behind has a page of JSON for its 502",
    # nginx puts its name on what it hands on, too: who wrote a body of another shape can't be told.
    right("second_lb", "bad_gateway_behind upstream_error", unsure="upstream"),
    is_fast=True,
)
def nginx_json_page(bed: Bed, variant: Variant) -> Iterator[Broken]:
    page = "error_page 502 @down; "
    down = """location @down { default_type application/json; return 502 '{"error":"bad gateway"}'; }"""
    port = free_port()
    server = f"server {{ listen 127.0.0.1:{port}; {page} location / {{ proxy_pass http://127.0.0.1:{free_port()}; }} {down} }}"
    with Nginx(server, [port]):
        yield Broken(f"http://127.0.0.1:{port}/")


@cause(
    GROUP,
    "the application behind nginx is not ready (503, JSON), and nginx puts its name on it",
    right("upstream", "unavailable_behind upstream_error", unsure="second_lb"),
    is_fast=True,
)
def application_503_behind_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("503 Service Unavailable", b'{"error":"warming up"}', "Content-Type: application/json")
    yield from _behind_nginx(bed, variant, sends(data, hangs))


@cause(
    GROUP,
    "the application behind nginx fails (500, HTML of its own), and nginx puts its name on it",
    right("upstream", "upstream_error", unsure="second_lb"),
)
def application_500_behind_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    body = b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>\n"
    data = reply("500 Internal Server Error", body, "Content-Type: text/html; charset=utf-8", "Server: Werkzeug/3.0.1")
    yield from _behind_nginx(bed, variant, sends(data, hangs))


# === HAProxy behind ===


@contextmanager
def _haproxy(bed: Bed, variant: Variant, server: str) -> Iterator[Broken]:
    port = free_port()
    haproxy = Haproxy(port, port)
    pem = haproxy.folder / "server.pem"
    pem.write_bytes(bed.certificate.certificate.read_bytes() + bed.certificate.key.read_bytes())
    tls = f"ssl crt {pem}" if variant.scheme == "https" else ""
    (haproxy.folder / "haproxy.cfg").write_text(
        f"{GLOBAL}defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 200ms\n  retries 0\n"
        f"frontend front\n  bind 127.0.0.1:{port} {tls}\n"
        "  http-request return status 200 content-type text/plain string ok if { path /ok }\n"
        f"  default_backend origin\nbackend origin\n  {server}\n"
    )
    with haproxy:
        yield Broken(f"{variant.scheme}://127.0.0.1:{port}/")


def _behind_haproxy(bed: Bed, variant: Variant, fault: Fault) -> Iterator[Broken]:
    with bed.faulty(FRESH, fault) as origin:
        assert origin.armed
        origin.armed.set()
        address = origin.url.removeprefix("http://").rstrip("/")
        with _haproxy(bed, variant, f"server origin {address}") as broken:
            yield broken


@cause(
    GROUP,
    "HAProxy behind has no server (503)",
    right("second_lb", "unavailable_behind", "HAProxy"),
    ALL,
    is_fast=True,
)
def haproxy_no_server(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, variant, f"server origin 127.0.0.1:{free_port()}") as broken:
        yield broken


@cause(GROUP, "HAProxy behind: its only server is drained (503)", right("second_lb", "unavailable_behind", "HAProxy"), PLAIN)
def haproxy_drained(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, variant, "server origin 127.0.0.1:1 weight 0") as broken:
        yield broken


@cause(GROUP, "HAProxy behind: its only server is in maintenance (503)", right("second_lb", "unavailable_behind", "HAProxy"))
def haproxy_maintenance(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, variant, "server origin 127.0.0.1:1 disabled") as broken:
        yield broken


@cause(
    GROUP,
    "HAProxy behind: its server answers rubbish (502)",
    right("second_lb", "bad_gateway_behind", "HAProxy"),
    BOTH_SCHEMES,
    is_fast=True,
)
def haproxy_bad_answer(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_haproxy(bed, variant, sends(b"this is not http\r\n\r\n", fin))


@cause(GROUP, "HAProxy behind: its server closes early (502)", right("second_lb", "bad_gateway_behind", "HAProxy"))
def haproxy_closed_early(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_haproxy(bed, variant, sends(b"", fin))


@cause(
    GROUP,
    "HAProxy behind waits for its server in vain (504)",
    right("second_lb", "timeout_behind", "HAProxy"),
    BOTH_SCHEMES,
    is_fast=True,
)
def haproxy_timeout(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_haproxy(bed, variant, sends(b"", hangs))


@cause(
    GROUP,
    "HAProxy behind has a page of JSON for its 503",
    # It puts its name nowhere: an application could have written the same.
    right("second_lb", "unavailable_behind upstream_error", unsure="upstream"),
    is_fast=True,
)
def haproxy_json_page(bed: Bed, variant: Variant) -> Iterator[Broken]:
    page = """http-error status 503 content-type application/json string '{"error":"unavailable"}'"""
    with _haproxy(bed, variant, f"{page}\n  server origin 127.0.0.1:{free_port()}") as broken:
        yield broken


@cause(
    GROUP,
    "the application behind HAProxy fails (500, JSON)",
    right("upstream", "upstream_error", unsure="second_lb"),
)
def application_500_behind_haproxy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = reply("500 Internal Server Error", b'{"error":"division by zero"}', "Content-Type: application/json")
    yield from _behind_haproxy(bed, variant, sends(data, hangs))


@cause(
    GROUP,
    "HAProxy behind: the answer breaks off in the body",
    # The load balancer ends what its server ended; who began it can't be seen from before it.
    right("second_lb upstream", "closed_in_body", unsure="network"),
)
def haproxy_body_breaks_off(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _behind_haproxy(bed, variant, sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789", fin))


@cause(
    GROUP,
    "the load balancer behind is down",
    right("second_lb upstream", "connect_refused", unsure="network dns gateway"),
)
def second_down(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, variant, "server origin 127.0.0.1:1 disabled") as broken:
        path = bed.blueprints.path(broken.url, retries=0)
        assert bed.gateway.get(path + "/ok").status == 200
    yield Broken(path=path)


# === before the gateway ===


@cause(
    GROUP,
    "nginx before us gives up sooner than the upstream answers (its client: 504)",
    right("first_lb", "client_gone", unsure="client upstream"),
    is_fast=True,
    is_stock=False,
)
def first_nginx_gives_up(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    server = (
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{bed.gateway.proxy_port};"
        f" proxy_bind {LOAD_BALANCER}; proxy_read_timeout 200ms; proxy_http_version 1.1; proxy_next_upstream off;"
        " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }"
    )
    with bed.faulty(variant, sends(b"", hangs), service=LONG, port=port) as broken, Nginx(server, [port]):
        yield broken


@cause(
    GROUP,
    "HAProxy before us gives up sooner than the upstream answers (its client: 504)",
    right("first_lb", "client_gone", unsure="client upstream"),
    is_fast=True,
    is_stock=False,
)
def first_haproxy_gives_up(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with first_haproxy(bed, "200ms") as port, bed.faulty(variant, sends(b"", hangs), service=LONG, port=port) as broken:
        yield broken


@cause(
    GROUP,
    "what stands before us adds a second Content-Length to a good request",
    # Its client could have sent it so.
    right("first_lb", "bad_framing", unsure="client"),
    is_stock=False,
)
def first_corrupts(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        head = connection.read_until(b"\r\n\r\n")[:-2]
        added = b"X-Forwarded-For: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nonce!"
        with socket.create_connection(("127.0.0.1", bed.gateway.proxy_port), 5, (LOAD_BALANCER, 0)) as onward:
            onward.sendall(head + added)
            while data := onward.recv(65_536):
                connection.send(data)

    with bed.behind(good) as origin, bed.behind(serve) as first:
        yield Broken(path=bed.blueprints.path(origin), port=first.port)


@cause(
    GROUP,
    "the client of HAProxy before us leaves, and HAProxy with it",
    # From here both look the same: the load balancer closes.
    right("client", "client_gone", unsure="first_lb upstream"),
    is_stock=False,
)
def client_of_haproxy_leaves(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with (
        first_haproxy(bed, "20s") as port,
        bed.faulty(variant, sends(b"", hangs), service=LONG, port=port, leaves=True) as broken,
    ):
        yield broken


@contextmanager
def first_haproxy(bed: Bed, patience: str) -> Iterator[int]:
    """An HAProxy before the gateway that gives up after so long; its port."""
    port = free_port()
    haproxy = Haproxy(port, port)
    (haproxy.folder / "haproxy.cfg").write_text(
        f"{GLOBAL}defaults\n  mode http\n  option forwardfor\n  option abortonclose\n  timeout connect 1s\n  timeout client 30s\n"
        f"  timeout server {patience}\n  retries 0\nfrontend front\n  bind 127.0.0.1:{port}\n  default_backend gateway\n"
        f"backend gateway\n  server gateway 127.0.0.1:{bed.gateway.proxy_port} source {LOAD_BALANCER}\n"
    )
    with haproxy:
        yield port
