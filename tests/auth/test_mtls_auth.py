# SPDX-License-Identifier: Apache-2.0
"""Do certificates of an OpenSSL authority get their holders through the TLS listener, until they are revoked?"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.ports import free_port
from tests.support.raw import Client, Reply
from tests.support.servers.openssl_authority import Files, Issued, OpensslAuthority
from tests.support.servers.server import find
from tests.support.wait import until

REQUEST = b"GET %s HTTP/1.1\r\nHost: api.test\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    """A root."""
    return OpensslAuthority(tmp_path_factory.mktemp("pki") / "root", "Root")


@pytest.fixture(scope="module")
def trusted(gateway: Gateway, authority: OpensslAuthority) -> str:
    """The id of its certificate in the gateway."""
    created: dict[str, Any] = gateway.admin.post("/ca_certificates", {"cert": authority.pem})
    return str(created["id"])


@pytest.fixture(scope="module")
def alice(gateway: Gateway) -> str:
    """A Consumer's name."""
    gateway.admin.post("/consumers", {"username": "alice"})
    return "alice"


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    """Where revocation lists are."""
    with Files() as server:
        yield server


def context_of(issued: Issued | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that shows a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if issued is not None:
        context.load_cert_chain(issued.certificate, issued.key)
    return context


def ask(gateway: Gateway, path: str, issued: Issued | None, server_name: str | None = "api.test", **options: Any) -> Reply:
    """The answer to one request on a connection of its own."""
    with Client.tls(gateway.proxy_tls_port, server_name, context_of(issued, **options)) as client:
        return client.send(REQUEST % path.encode()).read_reply()


def protected(blueprints: Blueprints, echo: Origin, trusted: str, **config: Any) -> str:
    """A path behind the plugin."""
    return blueprints.plugged(echo, "mtls-auth", ca_certificates=[trusted], **config)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_gets_its_holder_through(
    gateway: Gateway,
    blueprints: Blueprints,
    echo: Origin,
    authority: OpensslAuthority,
    trusted: str,
    alice: str,
    version: ssl.TLSVersion,
) -> None:
    path = protected(blueprints, echo, trusted)
    reply = ask(gateway, path, authority.issue(alice), version=version)
    assert reply.status == 200, reply.text
    assert echo.requests[0].header("X-Consumer-Username") == alice
    assert echo.requests[0].header("X-Credential-Identifier") == alice
    refused = ask(gateway, path, None, version=version)
    assert (refused.status, "No required TLS certificate was sent" in refused.text) == (401, True)


def test_mapping_made_by_the_admin_api_is_followed_and_forgotten(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, authority: OpensslAuthority, trusted: str, alice: str
) -> None:
    path = protected(blueprints, echo, trusted)
    issued = authority.issue("worker-7", extensions="extendedKeyUsage=clientAuth\nsubjectAltName=email:seven@a.test")
    with Client.tls(gateway.proxy_tls_port, "api.test", context_of(issued)) as client:
        assert client.send(REQUEST % path.encode()).read_reply().status == 401
        made = gateway.admin.post(
            f"/consumers/{alice}/mtls-auth", {"subject_name": "seven@a.test", "ca_certificate": {"id": trusted}}
        )
        gateway.settle()
        assert client.send(REQUEST % path.encode()).read_reply().status == 200
        assert echo.requests[0].header("X-Credential-Identifier") == made["id"]
        gateway.admin.delete(f"/consumers/{alice}/mtls-auth/{made['id']}")
        gateway.settle()
        assert client.send(REQUEST % path.encode()).read_reply().status == 401


def test_names_of_authorities_are_sent_where_wanted(gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str) -> None:
    name = f"{unique('named')}.test"
    route = blueprints.route(blueprints.service(echo), snis=[name], protocols=["https"])
    blueprints.plugin("mtls-auth", route, "route", ca_certificates=[trusted], send_ca_dn=True)
    gateway.settle()
    program = find("openssl")
    assert program
    for server_name, is_named in [(name, True), ("other.test", False)]:
        shown = subprocess.run(
            [program, "s_client", "-connect", f"127.0.0.1:{gateway.proxy_tls_port}", "-servername", server_name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
        assert ("CN = Root" in shown.partition("Acceptable client certificate CA names")[2]) is is_named, shown


def test_revocation_list_is_fetched_kept_and_obeyed(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, authority: OpensslAuthority, trusted: str, alice: str, files: Files
) -> None:
    path = protected(blueprints, echo, trusted, revocation_check_mode="STRICT", cert_cache_ttl=200)
    point = f"/{unique('list')}.crl"
    extensions = f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url(point)}"
    good, bad = authority.issue(alice, extensions=extensions), authority.issue(alice, extensions=extensions)
    files.content[point] = authority.revocation_list()
    assert ask(gateway, path, good).status == 200
    assert ask(gateway, path, bad).status == 200
    assert files.asked.count(point) == 1
    authority.revoke(bad)
    files.content[point] = authority.revocation_list()
    until(lambda: ask(gateway, path, bad).status == 401, "the new list to be fetched")
    assert ask(gateway, path, good).status == 200


def test_ocsp_responder_is_asked_and_obeyed(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, authority: OpensslAuthority, trusted: str, alice: str
) -> None:
    path = protected(blueprints, echo, trusted, revocation_check_mode="STRICT", cert_cache_ttl=100)
    delegate = authority.issue("OCSP", extensions="extendedKeyUsage=OCSPSigning\nkeyUsage=digitalSignature")
    responder = authority.responder(free_port(), delegate)
    extensions = f"extendedKeyUsage=clientAuth\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:{responder.port}/"
    issued = authority.issue(alice, extensions=extensions)
    assert ask(gateway, path, issued).status == 401
    with responder:
        until(lambda: ask(gateway, path, issued).status == 200, "the responder to be asked again")
        authority.revoke(issued)
        responder.restart()
        until(lambda: ask(gateway, path, issued).status == 401, "the revocation to be noticed")


def test_silent_authority_stops_clients_only_where_strict(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, authority: OpensslAuthority, trusted: str, alice: str, files: Files
) -> None:
    strict = protected(blueprints, echo, trusted, revocation_check_mode="STRICT")
    usual = protected(blueprints, echo, trusted)
    extensions = f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url('/nothing.crl')}"
    silent = authority.issue(alice, extensions=extensions)
    assert (ask(gateway, strict, silent).status, ask(gateway, usual, silent).status) == (401, 200)
    gateway.error_log.wait_for("status 503")
    names_nobody = authority.issue(alice)
    assert (ask(gateway, strict, names_nobody).status, ask(gateway, usual, names_nobody).status) == (401, 200)


def test_lists_are_fetched_through_a_proxy(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, authority: OpensslAuthority, trusted: str, alice: str, files: Files
) -> None:
    path = protected(
        blueprints, echo, trusted, revocation_check_mode="STRICT", http_proxy_host="127.0.0.1", http_proxy_port=files.port
    )
    extensions = "extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:http://lists.test/by-proxy.crl"
    files.content["/by-proxy.crl"] = authority.revocation_list()
    assert ask(gateway, path, authority.issue(alice, extensions=extensions)).status == 200
    assert "http://lists.test/by-proxy.crl" in files.asked


def test_intermediate_authority_is_found_and_its_revocation_counts(
    gateway: Gateway,
    blueprints: Blueprints,
    echo: Origin,
    authority: OpensslAuthority,
    trusted: str,
    alice: str,
    files: Files,
    tmp_path: Path,
) -> None:
    path = protected(blueprints, echo, trusted, cert_cache_ttl=100)
    point = f"/{unique('root')}.crl"
    middle = OpensslAuthority(tmp_path / "middle", "Middle", authority, f"crlDistributionPoints=URI:{files.url(point)}")
    files.content[point] = authority.revocation_list()
    issued = middle.issue(alice)
    assert ask(gateway, path, issued).status == 401
    complete = issued.with_chain(middle.certificate)
    assert ask(gateway, path, complete).status == 200
    authority.revoke(Issued(middle.certificate, issued.key))
    files.content[point] = authority.revocation_list()
    until(lambda: ask(gateway, path, complete).status == 401, "the authority's revocation to be noticed")
