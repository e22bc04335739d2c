# SPDX-License-Identifier: Apache-2.0
"""What if the port speaks something else?"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.bed import Bed, fin, hangs, sends
from tests.matrix.case import BOTH_SCHEMES, FRESH, PLAIN, Broken, Variant, cause, right
from tests.support.origin import Connection
from tests.support.ports import free_port
from tests.support.servers.haproxy import GLOBAL, Haproxy
from tests.support.servers.nginx import Nginx

GROUP = "http"

# RFC 9113: an empty SETTINGS frame, then GOAWAY with PROTOCOL_ERROR.
H2_ANSWER = bytes.fromhex("0000000400000000000000080700000000000000000000000001")


@cause(
    GROUP,
    "the port speaks HTTP/2 only: it answers with frames",
    right("upstream", "protocol_mismatch", "HTTP/2", unsure="second_lb gateway"),
    BOTH_SCHEMES,
    is_fast=True,
)
def h2_frames(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(H2_ANSWER, fin)) as broken:
        yield broken


@cause(
    GROUP,
    "a real nginx that speaks HTTP/2 in the clear",
    right("upstream second_lb", "protocol_mismatch closed_before_headers reset", "HTTP/2", unsure="gateway"),
)
def h2_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    with Nginx(f"server {{ listen 127.0.0.1:{port} http2; location / {{ return 200 'h2'; }} }}", [port]):
        yield Broken(f"http://127.0.0.1:{port}/")


@cause(
    GROUP,
    "the port echoes an HTTP/2 preface",
    right("upstream", "protocol_mismatch bad_response", "HTTP/2", unsure="second_lb gateway"),
)
def h2_preface(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", fin)) as broken:
        yield broken


@cause(
    GROUP,
    "the port speaks SSH",
    right("upstream", "protocol_mismatch", "SSH", unsure="gateway second_lb"),
    is_fast=True,
)
def ssh(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        hangs(connection)

    with bed.behind(serve) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "the port speaks SMTP",
    right("upstream", "protocol_mismatch", "SMTP|220", unsure="gateway second_lb"),
    is_fast=True,
)
def smtp(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.send(b"220 mail.matrix.test ESMTP\r\n")
        hangs(connection)

    with bed.behind(serve) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "the port speaks Redis",
    right("upstream", "protocol_mismatch", "redis|-ERR", unsure="gateway second_lb"),
    PLAIN,
    is_fast=True,
)
def redis(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"-ERR unknown command 'GET', with args beginning with: '/' \r\n", hangs)) as broken:
        yield broken


@cause(
    GROUP,
    "nginx behind expects the PROXY protocol",
    # It reads the request's first bytes as that header, finds another, and closes without a word.
    right("second_lb upstream", "closed_before_headers reset", "PROXY protocol", unsure="gateway network"),
    (FRESH,),
)
def proxy_protocol_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    with Nginx(f"server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 'ok'; }} }}", [port]):
        yield Broken(f"http://127.0.0.1:{port}/")


@cause(
    GROUP,
    "HAProxy behind expects the PROXY protocol",
    right("second_lb upstream", "closed_before_headers reset", "PROXY protocol", unsure="gateway network"),
    (FRESH,),
)
def proxy_protocol_haproxy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    haproxy = Haproxy(port, port)
    (haproxy.folder / "haproxy.cfg").write_text(
        f"{GLOBAL}defaults\n  mode http\n  timeout client 5s\n"
        f"frontend front\n  bind 127.0.0.1:{port} accept-proxy\n  http-request return status 200\n"
    )
    with haproxy:
        yield Broken(f"http://127.0.0.1:{port}/")
