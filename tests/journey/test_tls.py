# SPDX-License-Identifier: Apache-2.0
"""Does the TLS listener stand on its own, and does TLS towards the upstream check what it is told to check?"""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.blueprints import Blueprints
from tests.support.certificates import Certificate, self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good
from tests.support.raw import Client, request
from tests.support.servers.server import find
from tests.support.wait import holds_for


def test_https_reaches_the_upstream_and_says_so(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    with Client.tls(gateway.proxy_tls_port, "shop.test") as client:
        reply = client.send(request("GET", echo_path + "/a", host="shop.test")).read_reply()
        assert reply.status == 200
        assert client.send(request("GET", echo_path)).read_reply().status == 200
    assert echo.requests[0].header("X-Forwarded-Proto") == "https"
    assert echo.requests[0].header("X-Forwarded-Port") == str(gateway.proxy_tls_port)
    gateway.access_log.wait_for(f'"GET {echo_path}/a HTTP/1.1" 200 ')


def test_the_default_certificate_is_made_at_the_first_start(gateway: Gateway) -> None:
    with Client.tls(gateway.proxy_tls_port) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        certificate = client.socket.getpeercert(binary_form=True)
        assert certificate
        assert client.socket.version() in ("TLSv1.2", "TLSv1.3")
    keys = list((gateway.prefix / "ssl").glob("*.key"))
    assert keys, "no key was stored under the prefix"
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys), "a key others may read"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(gateway: Gateway, echo_path: str, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with Client.tls(gateway.proxy_tls_port, None, context) as client:
        assert client.send(request("GET", echo_path)).read_reply().status == 200


def test_tls_1_1_is_refused(gateway: Gateway) -> None:
    openssl = find("openssl")
    assert openssl, "openssl is not installed; hint: scripts/test-packages.sh"
    address = f"127.0.0.1:{gateway.proxy_tls_port}"
    talk = subprocess.run(
        [openssl, "s_client", "-connect", address, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert talk.returncode != 0


def test_an_https_only_route_answers_over_https(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(echo, route={"protocols": ["https"]})
    assert gateway.get(path).status == 426
    with Client.tls(gateway.proxy_tls_port) as client:
        assert client.send(request("GET", path)).read_reply().status == 200


def test_a_route_is_matched_by_sni(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = "/by-sni"
    blueprints.route(blueprints.service(echo), paths=[path], snis=["one.test"], protocols=["https"])
    gateway.settle()
    with Client.tls(gateway.proxy_tls_port, "one.test") as client:
        assert client.send(request("GET", path)).read_reply().status == 200
    with Client.tls(gateway.proxy_tls_port, "two.test") as client:
        assert client.send(request("GET", path)).read_reply().status == 404


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 1000])
def test_what_is_not_tls_ends_that_connection_only(gateway: Gateway, echo_path: str, data: bytes) -> None:
    with Client(gateway.proxy_tls_port) as client:
        client.send(data).finish_sending()
        client.socket.settimeout(5)
        client.read_to_end()
    with Client.tls(gateway.proxy_tls_port) as client:
        assert client.send(request("GET", echo_path)).read_reply().status == 200


def test_a_client_that_stops_in_the_handshake_holds_nobody(gateway: Gateway, echo_path: str) -> None:
    stuck = [socket.create_connection(("127.0.0.1", gateway.proxy_tls_port)) for _ in range(50)]
    with Client.tls(gateway.proxy_tls_port) as client:
        assert client.send(request("GET", echo_path)).read_reply().status == 200
    for link in stuck:
        link.close()
    holds_for(lambda: len(gateway.access_log.lines()) <= 1, "an access line for a handshake", 0.2)


def test_a_certificate_of_ones_own(tmp_path: Path, echo: Origin) -> None:
    mine = self_signed(tmp_path, "shop.test")
    with Gateway({"ssl_cert": str(mine.certificate), "ssl_cert_key": str(mine.key)}) as gateway:
        path = Blueprints(gateway).path(echo)
        context = ssl.create_default_context(cafile=str(mine.certificate))
        with Client.tls(gateway.proxy_tls_port, "shop.test", context) as client:
            assert client.send(request("GET", path, host="shop.test")).read_reply().status == 200


# === towards the upstream ===


@dataclass
class Trusting:
    """A gateway that trusts one certificate, and an origin that presents it."""

    gateway: Gateway
    blueprints: Blueprints
    origin: Origin
    certificate: Certificate


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusting]:
    certificate = self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    settings = {"lua_ssl_trusted_certificate": str(certificate.certificate)}
    with Gateway(settings) as gateway, Origin(good, tls=certificate.server_context()) as origin:
        yield Trusting(gateway, Blueprints(gateway), origin, certificate)


def test_a_trusted_upstream_is_called(trusting: Trusting) -> None:
    path = trusting.blueprints.path(trusting.origin, tls_verify=True)
    assert trusting.gateway.get(path).status == 200


def test_tls_connections_are_kept_too(trusting: Trusting) -> None:
    path = trusting.blueprints.path(trusting.origin)
    trusting.origin.forget()
    assert [trusting.gateway.get(path).status for _ in range(5)] == [200] * 5
    assert trusting.origin.connections <= 1


def test_verified_and_unverified_connections_do_not_share_a_pool(trusting: Trusting, tmp_path: Path) -> None:
    unknown = self_signed(tmp_path, "127.0.0.1")
    with Origin(good, tls=unknown.server_context()) as origin:
        lenient = trusting.blueprints.path(origin, tls_verify=False)
        strict = trusting.blueprints.path(origin, tls_verify=True)
        assert trusting.gateway.get(lenient).status == 200
        assert trusting.gateway.get(strict).status == 502, "a connection that was never verified was used again"
        assert trusting.gateway.get(lenient).status == 200


def test_the_name_is_checked(trusting: Trusting, tmp_path: Path) -> None:
    other = self_signed(tmp_path, "other.test")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(other.certificate.read_bytes())
    with (
        Gateway({"lua_ssl_trusted_certificate": str(bundle)}) as gateway,
        Origin(good, tls=other.server_context()) as origin,
    ):
        path = Blueprints(gateway).path(origin, tls_verify=True, retries=0)
        assert gateway.get(path).status == 502
        gateway.error_log.wait_for("upstream SSL certificate")
