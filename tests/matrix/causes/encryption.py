# SPDX-License-Identifier: Apache-2.0
"""How does TLS between the gateway and an upstream fail?"""

from __future__ import annotations

import datetime
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.matrix.bed import SHORT, Bed, fin, hangs, sends
from tests.matrix.case import MUTUAL, PLAIN, TLS_FRESH, Broken, Variant, cause, right
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.origin import Behaviour, Connection, good, plain_to_tls
from tests.support.ports import free_port
from tests.support.servers.haproxy import GLOBAL, Haproxy
from tests.support.servers.nginx import Nginx

GROUP = "tls"
TLS = (TLS_FRESH,)
VERIFIED = {"tls_verify": True}
# A Service whose protocol is not the port's is the gateway's as much as the server's.
MISCONFIGURED = "upstream gateway"


# === one side speaks TLS, the other does not ===


@cause(
    GROUP,
    "protocol=https to a port that speaks plain HTTP",
    right(MISCONFIGURED, "upstream_tls_failed", "protocol=http", unsure="second_lb"),
    TLS,
    is_fast=True,
)
def tls_to_plain(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(plain_to_tls) as origin:
        yield Broken(origin.url.replace("http:", "https:"))


@cause(
    GROUP,
    "protocol=https to a plain nginx",
    right(MISCONFIGURED + " second_lb", "upstream_tls_failed", "protocol=http"),
    TLS,
    is_fast=True,
)
def tls_to_plain_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    with Nginx.origin(port):
        yield Broken(f"https://127.0.0.1:{port}/")


@cause(
    GROUP,
    "protocol=http to a TLS port of nginx",
    right(MISCONFIGURED + " second_lb", "plain_http_to_tls_port", "protocol=https"),
    is_fast=True,
)
def plain_to_tls_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    with Nginx.tls_origin(port, str(bed.certificate.certificate), str(bed.certificate.key)):
        yield Broken(f"http://127.0.0.1:{port}/")


@cause(
    GROUP,
    "protocol=http to a TLS port of Go",
    right(MISCONFIGURED, "plain_http_to_tls_port", "protocol=https", unsure="second_lb"),
    PLAIN,
    is_fast=True,
)
def plain_to_tls_go(bed: Bed, variant: Variant) -> Iterator[Broken]:
    # net/http/server.go, byte for byte.
    data = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    with bed.faulty(variant, sends(data, fin)) as broken:
        yield broken


@cause(
    GROUP,
    "protocol=http to a TLS port that answers with an alert",
    right(MISCONFIGURED, "protocol_mismatch", "protocol=https", unsure="second_lb"),
    is_fast=True,
)
def plain_to_tls_alert(bed: Bed, variant: Variant) -> Iterator[Broken]:
    # A fatal alert, unexpected_message: what OpenSSL, Java and many others say.
    with bed.faulty(variant, sends(bytes.fromhex("1503010002020a"), fin)) as broken:
        yield broken


@cause(
    GROUP,
    "protocol=http to a TLS port that closes without a word (HAProxy)",
    # Nothing tells this end from that of a server that crashed: it must be among what is said to look at.
    right(MISCONFIGURED + " second_lb", "closed_before_headers reset", "https|TLS", unsure="network"),
)
def plain_to_tls_haproxy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, "") as port:
        yield Broken(f"http://127.0.0.1:{port}/")


# === certificates ===


def _presenting(bed: Bed, certificate: Certificate) -> Iterator[Broken]:
    with bed.behind(good, certificate.server_context()) as origin:
        yield Broken(origin.url, service=VERIFIED)


@cause(
    GROUP,
    "the certificate has expired",
    right("upstream", "upstream_certificate_rejected", "expired", unsure="second_lb"),
    TLS,
    is_fast=True,
)
def certificate_expired(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _presenting(
        bed, bed.authority.sign("127.0.0.1", "127.0.0.1", valid_for=-datetime.timedelta(days=3), file="expired")
    )


@cause(
    GROUP,
    "the certificate is not valid yet",
    right("upstream", "upstream_certificate_rejected", "yet|not valid before|clock", unsure="second_lb gateway"),
    TLS,
    is_fast=True,
)
def certificate_not_yet_valid(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _presenting(
        bed, bed.authority.sign("127.0.0.1", "127.0.0.1", valid_in=datetime.timedelta(days=3), file="tomorrow")
    )


@cause(
    GROUP,
    "the certificate is for another name",
    right("upstream gateway", "upstream_certificate_rejected", "other.matrix.test", unsure="second_lb dns"),
    TLS,
    is_fast=True,
)
def certificate_of_another_name(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _presenting(bed, bed.authority.sign("other.matrix.test", "other.matrix.test"))


@cause(
    GROUP,
    "the certificate was signed by a CA that nobody here knows",
    right("upstream gateway", "upstream_certificate_rejected", "ca_certificates|lua_ssl_trusted_certificate", unsure="second_lb"),
    TLS,
    is_fast=True,
)
def certificate_of_unknown_authority(bed: Bed, variant: Variant) -> Iterator[Broken]:
    folder = bed.folder / "stranger"
    folder.mkdir(exist_ok=True)
    yield from _presenting(bed, Authority(folder, "stranger").sign("127.0.0.1", "127.0.0.1"))


@cause(
    GROUP,
    "the certificate is self-signed",
    right("upstream gateway", "upstream_certificate_rejected", "ca_certificates|lua_ssl_trusted_certificate", unsure="second_lb"),
    TLS,
    is_fast=True,
)
def certificate_self_signed(bed: Bed, variant: Variant) -> Iterator[Broken]:
    folder = bed.folder / "self"
    folder.mkdir(exist_ok=True)
    yield from _presenting(bed, self_signed(folder, "127.0.0.1"))


# === the server wants a certificate of the client ===

WANTS = right(
    "upstream second_lb gateway", "upstream_wants_certificate", "client certificate|certificate of the client|mTLS|mutual"
)


def _wanting(bed: Bed, variant: Variant, version: ssl.TLSVersion) -> Iterator[Broken]:
    context = bed.context(variant)
    assert context
    context.minimum_version = context.maximum_version = version
    with bed.behind(good, context) as origin:
        yield Broken(origin.url)


@cause(GROUP, "the server wants a client certificate (TLS 1.3: said after the handshake)", WANTS, (MUTUAL,), is_fast=True)
def client_certificate_wanted(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _wanting(bed, variant, ssl.TLSVersion.TLSv1_3)


@cause(GROUP, "the server wants a client certificate (TLS 1.2: said in the handshake)", WANTS, (MUTUAL,), is_fast=True)
def client_certificate_wanted_tls12(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _wanting(bed, variant, ssl.TLSVersion.TLSv1_2)


@cause(GROUP, "nginx behind wants a client certificate (400)", WANTS, (MUTUAL,), is_fast=True)
def client_certificate_wanted_nginx(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    server = (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {bed.certificate.certificate};"
        f" ssl_certificate_key {bed.certificate.key}; ssl_verify_client on;"
        f" ssl_client_certificate {bed.authority.certificate}; location / {{ return 200 'ok'; }} }}"
    )
    with Nginx(server, [port]):
        yield Broken(f"https://127.0.0.1:{port}/")


@cause(GROUP, "HAProxy behind wants a client certificate", WANTS, (MUTUAL,))
def client_certificate_wanted_haproxy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _haproxy(bed, f"ca-file {bed.authority.certificate} verify required") as port:
        yield Broken(f"https://127.0.0.1:{port}/")


@contextmanager
def _haproxy(bed: Bed, options: str) -> Iterator[int]:
    port = free_port()
    haproxy = Haproxy(port, port)
    pem = haproxy.folder / "server.pem"
    pem.write_bytes(bed.certificate.certificate.read_bytes() + bed.certificate.key.read_bytes())
    (haproxy.folder / "haproxy.cfg").write_text(
        f"{GLOBAL}defaults\n  mode http\n  timeout client 5s\n"
        f"frontend front\n  bind 127.0.0.1:{port} ssl crt {pem} {options}\n  http-request return status 200\n"
    )
    with haproxy:
        yield port


# === no common ground ===


def _offering(bed: Bed, variant: Variant, context: ssl.SSLContext) -> Iterator[Broken]:
    with bed.behind(good, context) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "the server speaks TLS 1.1 at most",
    right("upstream", "upstream_tls_failed", "version", unsure="second_lb gateway"),
    TLS,
    is_fast=True,
)
def version_mismatch(bed: Bed, variant: Variant) -> Iterator[Broken]:
    context = bed.certificate.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    yield from _offering(bed, variant, context)


@cause(
    GROUP,
    "no cipher in common",
    right("upstream", "upstream_tls_failed", "cipher", unsure="second_lb gateway"),
    TLS,
    is_fast=True,
)
def cipher_mismatch(bed: Bed, variant: Variant) -> Iterator[Broken]:
    context = bed.certificate.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-CAMELLIA256-SHA384")
    yield from _offering(bed, variant, context)


@cause(
    GROUP,
    "the server knows no site of that name (SNI refused, nginx)",
    right("upstream second_lb gateway", "upstream_tls_failed", "name|SNI", unsure="dns"),
    TLS,
    is_fast=True,
)
def sni_refused(bed: Bed, variant: Variant) -> Iterator[Broken]:
    port = free_port()
    server = (
        f"server {{ listen 127.0.0.1:{port} ssl default_server; ssl_reject_handshake on; }}\n"
        f"server {{ listen 127.0.0.1:{port} ssl; server_name known.matrix.test; ssl_certificate {bed.certificate.certificate};"
        f" ssl_certificate_key {bed.certificate.key}; location / {{ return 200 'ok'; }} }}"
    )
    with Nginx(server, [port]):
        yield Broken(f"https://{bed.name('127.0.0.1')}:{port}/")


# === the handshake breaks off ===


def _in_handshake(bed: Bed, behaviour: Behaviour, **broken: Any) -> Iterator[Broken]:
    with bed.behind(behaviour) as origin:
        yield Broken(origin.url.replace("http:", "https:"), **broken)


@cause(
    GROUP,
    "closed in the middle of the handshake",
    right("upstream", "upstream_tls_failed", "clos", unsure="network second_lb gateway"),
    TLS,
    is_fast=True,
)
def handshake_closed(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        connection.close()

    yield from _in_handshake(bed, serve)


@cause(
    GROUP,
    "reset in the middle of the handshake",
    right("upstream", "upstream_tls_failed reset", "reset", unsure="network second_lb gateway"),
    TLS,
    is_fast=True,
)
def handshake_reset(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        connection.reset()

    yield from _in_handshake(bed, serve)


@cause(
    GROUP,
    "the server does not answer the hello",
    right(
        "upstream",
        "upstream_tls_failed connect_timeout",
        unsure="network second_lb gateway",
        # The connection was made: neither the queue nor a firewall before it is to be looked at.
        misleading="accept_queue_full filtered_or_full",
    ),
    TLS,
)
def handshake_silent(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        hangs(connection)

    yield from _in_handshake(bed, serve, service=SHORT)


@cause(
    GROUP,
    "rubbish in the middle of the handshake",
    right("upstream", "upstream_tls_failed", unsure="network second_lb gateway", misleading="tls_to_plain"),
    TLS,
    is_fast=True,
)
def handshake_rubbish(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        # A record of the handshake's kind, whose content is none.
        connection.send(bytes.fromhex("1603030010") + b"\xff" * 16)
        hangs(connection)

    yield from _in_handshake(bed, serve)


@cause(
    GROUP,
    "the server ends TLS with an alert in the handshake (internal error)",
    right("upstream", "upstream_tls_failed", "internal|alert", unsure="second_lb gateway"),
    TLS,
    is_fast=True,
)
def handshake_alert(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.receive()
        connection.send(bytes.fromhex("15030300020250"))
        connection.close()

    yield from _in_handshake(bed, serve)
