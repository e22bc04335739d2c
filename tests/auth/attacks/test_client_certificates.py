# SPDX-License-Identifier: Apache-2.0
"""Does any certificate, or the lack of one, get round mtls-auth? Each test is an attack."""

from __future__ import annotations

import base64
import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Client, ClosedEarly, Reply
from tests.support.servers.openssl_authority import Files, Issued, OpensslAuthority, new_key, openssl
from tests.support.wait import until

ABSENT = "No required TLS certificate was sent"
UNTRUSTED = "TLS certificate failed verification"
ALICE = "alice"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    """The trusted root."""
    return OpensslAuthority(tmp_path_factory.mktemp("pki") / "root", "Root")


@pytest.fixture(scope="module")
def trusted(gateway: Gateway, authority: OpensslAuthority) -> str:
    """Its id in the gateway."""
    created: dict[str, Any] = gateway.admin.post("/ca_certificates", {"cert": authority.pem})
    gateway.admin.post("/consumers", {"username": ALICE})
    return str(created["id"])


@pytest.fixture(scope="module")
def path(blueprints: Blueprints, echo: Origin, trusted: str) -> str:
    """What is protected."""
    return blueprints.plugged(echo, "mtls-auth", ca_certificates=[trusted], cert_cache_ttl=100)


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    """Where revocation lists are."""
    with Files() as server:
        yield server


def context_of(issued: Issued | None) -> ssl.SSLContext:
    """A client that shows a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if issued is not None:
        context.load_cert_chain(issued.certificate, issued.key)
    return context


def request(path: str, host: str = "api.test", *lines: str) -> bytes:
    """A request's bytes."""
    return "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode()


def ask(
    gateway: Gateway, path: str, issued: Issued | None, *lines: str, server_name: str | None = "api.test", host: str = ""
) -> Reply:
    """The answer to one request on a connection of its own."""
    with Client.tls(gateway.proxy_tls_port, server_name, context_of(issued)) as client:
        return client.send(request(path, host or server_name or "api.test", *lines)).read_reply()


def assert_refused(reply: Reply, echo: Origin, message: str = UNTRUSTED) -> None:
    """401 in these words, and the upstream has heard of nothing."""
    assert (reply.status, message in reply.text) == (401, True), reply.text
    assert echo.requests == []


def test_self_made_authority_of_the_same_name(gateway: Gateway, echo: Origin, path: str, tmp_path: Path) -> None:
    forger = OpensslAuthority(tmp_path / "forger", "Root")
    forged = forger.issue(ALICE)
    for chain in (forged, forged.with_chain(forger.certificate)):
        assert_refused(ask(gateway, path, chain), echo)


def test_self_signed_certificate(gateway: Gateway, echo: Origin, path: str, tmp_path: Path) -> None:
    issued = Issued(tmp_path / "self.crt", tmp_path / "self.key")
    new_key(issued.key)
    openssl("req", "-x509", "-new", "-key", issued.key, "-subj", f"/CN={ALICE}", "-out", issued.certificate)
    assert_refused(ask(gateway, path, issued), echo)


def test_trusted_root_sent_along_with_a_forged_certificate(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path
) -> None:
    forged = OpensslAuthority(tmp_path / "forger", "Root").issue(ALICE)
    assert_refused(ask(gateway, path, forged.with_chain(authority.certificate)), echo)


def test_certificate_of_another_client_as_authority(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path
) -> None:
    mallory = authority.issue("mallory")
    forged = Issued(tmp_path / "forged.crt", tmp_path / "forged.key")
    new_key(forged.key)
    wanted, usage = tmp_path / "forged.csr", tmp_path / "usage"
    usage.write_text("extendedKeyUsage=clientAuth\n")
    openssl("req", "-new", "-key", forged.key, "-subj", f"/CN={ALICE}", "-out", wanted)
    openssl(
        *("x509", "-req", "-in", wanted, "-CA", mallory.certificate, "-CAkey", mallory.key, "-CAcreateserial"),
        *("-extfile", usage, "-out", forged.certificate),
    )
    assert_refused(ask(gateway, path, forged.with_chain(mallory.certificate)), echo)


@pytest.mark.parametrize("period", ["20200101000000Z-20200201000000Z", "future"])
def test_expired_or_future_certificate(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, period: str
) -> None:
    if period == "future":
        year = datetime.datetime.now(datetime.UTC).year + 1
        period = f"{year}0101000000Z-{year}0201000000Z"
    assert_refused(ask(gateway, path, authority.issue(ALICE, days=period)), echo)


def test_server_certificate_as_a_clients(gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority) -> None:
    assert_refused(ask(gateway, path, authority.issue(ALICE, extensions="extendedKeyUsage=serverAuth")), echo)


def test_missing_intermediate(gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path) -> None:
    middle = OpensslAuthority(tmp_path / "middle", "Middle", authority)
    issued = middle.issue(ALICE)
    assert_refused(ask(gateway, path, issued), echo)
    assert ask(gateway, path, issued.with_chain(middle.certificate)).status == 200
    # That the whole chain was seen before does not help the other client.
    echo.forget()
    assert_refused(ask(gateway, path, issued), echo)


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [("branch.test", "DNS", 200), ("head.test", "DNS", 401), ("branch.test", "", 401), ("a@branch.test", "email", 200)],
)
def test_intermediate_signs_names_it_may_not(
    gateway: Gateway,
    blueprints: Blueprints,
    authority: OpensslAuthority,
    path: str,
    tmp_path: Path,
    name: str,
    kind: str,
    status: int,
) -> None:
    """It may vouch for hosts of `branch.test`; a Common Name, which no constraint covers, stands for nobody then."""
    middle = OpensslAuthority(tmp_path / "middle", "Branch", authority, "nameConstraints=critical,permitted;DNS:branch.test")
    blueprints.gateway.admin.call("POST", "/consumers", {"username": name})
    gateway.settle()
    alternative = f"\nsubjectAltName={kind}:{name}" if kind else ""
    issued = middle.issue(name, extensions=f"extendedKeyUsage=clientAuth{alternative}")
    assert ask(gateway, path, issued.with_chain(middle.certificate)).status == status


def test_constraints_on_names_that_are_not_compared(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path
) -> None:
    """What cannot be checked is refused (RFC 5280, section 4.2.1.10)."""
    middle = OpensslAuthority(tmp_path / "middle", "Post", authority, "nameConstraints=critical,permitted;email:branch.test")
    issued = middle.issue(ALICE, extensions=f"extendedKeyUsage=clientAuth\nsubjectAltName=email:{ALICE}@head.test")
    assert_refused(ask(gateway, path, issued.with_chain(middle.certificate)), echo)


def test_authority_below_one_that_may_have_none(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path
) -> None:
    last = OpensslAuthority(tmp_path / "last", "Last", authority, most_below=0)
    below = OpensslAuthority(tmp_path / "below", "Below", last)
    assert_refused(ask(gateway, path, below.issue(ALICE).with_chain(below.certificate, last.certificate)), echo)
    assert ask(gateway, path, last.issue(ALICE).with_chain(last.certificate)).status == 200


def test_revoked_certificate(gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, files: Files) -> None:
    point = f"/{unique('revoked')}.crl"
    issued = authority.issue(ALICE, extensions=f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url(point)}")
    authority.revoke(issued)
    files.content[point] = authority.revocation_list()
    assert_refused(ask(gateway, path, issued), echo)


def test_list_of_another_authority_in_place_of_the_own(
    gateway: Gateway,
    blueprints: Blueprints,
    echo: Origin,
    trusted: str,
    authority: OpensslAuthority,
    files: Files,
    tmp_path: Path,
) -> None:
    strict = blueprints.plugged(echo, "mtls-auth", ca_certificates=[trusted], revocation_check_mode="STRICT")
    point = f"/{unique('swapped')}.crl"
    issued = authority.issue(ALICE, extensions=f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url(point)}")
    authority.revoke(issued)
    files.content[point] = OpensslAuthority(tmp_path / "forger", "Root").revocation_list()
    assert_refused(ask(gateway, strict, issued), echo)


def test_old_list_replayed(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str, authority: OpensslAuthority, files: Files
) -> None:
    strict = blueprints.plugged(echo, "mtls-auth", ca_certificates=[trusted], revocation_check_mode="STRICT")
    point = f"/{unique('old')}.crl"
    issued = authority.issue(ALICE, extensions=f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url(point)}")
    files.content[point] = authority.revocation_list("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")
    authority.revoke(issued)
    assert_refused(ask(gateway, strict, issued), echo)


def test_session_resumed_after_revocation(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, files: Files
) -> None:
    point = f"/{unique('resumed')}.crl"
    issued = authority.issue(ALICE, extensions=f"extendedKeyUsage=clientAuth\ncrlDistributionPoints=URI:{files.url(point)}")
    files.content[point] = authority.revocation_list()
    context = context_of(issued)

    def ask_again(session: ssl.SSLSession | None) -> tuple[int, ssl.SSLSession | None, bool | None]:
        link = Client(gateway.proxy_tls_port)
        link.socket = context.wrap_socket(link.socket, server_hostname="api.test", session=session)
        with link:
            reply = link.send(request(path)).read_reply()
            assert isinstance(link.socket, ssl.SSLSocket)
            return reply.status, link.socket.session, link.socket.session_reused

    status, session, _ = ask_again(None)
    assert status == 200
    status, _, is_resumed = ask_again(session)
    assert (status, is_resumed) == (200, True)
    assert echo.requests[-1].header("X-Consumer-Username") == ALICE
    authority.revoke(issued)
    files.content[point] = authority.revocation_list()
    until(lambda: ask_again(session)[0] == 401, "the revocation to count for the resumed session")


def test_session_begun_under_a_name_that_asks_nobody(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str
) -> None:
    hidden = f"{unique('hidden')}.test"
    route = blueprints.route(blueprints.service(echo), snis=[hidden], protocols=["https"])
    blueprints.plugin("mtls-auth", route, "route", ca_certificates=[trusted])
    gateway.settle()
    context = context_of(None)
    with Client.tls(gateway.proxy_tls_port, "open.test", context) as client:
        assert client.send(request("/nothing", "open.test")).read_reply().status == 404
        assert isinstance(client.socket, ssl.SSLSocket)
        session = client.socket.session
    link = Client(gateway.proxy_tls_port)
    link.socket = context.wrap_socket(link.socket, server_hostname=hidden, session=session)
    with link:
        assert isinstance(link.socket, ssl.SSLSocket)
        assert not link.socket.session_reused
        assert_refused(link.send(request("/", hidden)).read_reply(), echo, ABSENT)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_without_its_key(
    gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    stolen = authority.issue(ALICE)
    context = context_of(with_another_key(stolen, tmp_path / "other.key"))
    context.minimum_version = context.maximum_version = version
    with (
        pytest.raises((ssl.SSLError, ClosedEarly), match="decrypt error"),
        Client.tls(gateway.proxy_tls_port, "api.test", context) as client,
    ):
        client.send(request(path)).read_reply()
    gateway.error_log.wait_for("SSL_do_handshake() failed")
    assert echo.requests == []


def with_another_key(stolen: Issued, path: Path) -> Issued:
    """The certificate with a private key that is not its own, though it says so: OpenSSL compares the public half it is given."""
    certificate = x509.load_pem_x509_certificate(stolen.certificate.read_bytes())
    public = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    # ECPrivateKey (RFC 5915): version, secret, curve, public point.
    body = b"\x02\x01\x01\x04\x20" + secret + bytes.fromhex("a00a06082a8648ce3d030107") + b"\xa1\x44\x03\x42\x00" + public
    text = base64.encodebytes(b"\x30" + bytes([len(body)]) + body).decode()
    path.write_text(f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n")
    return Issued(stolen.certificate, path)


@pytest.mark.parametrize("server_name", [None, "open.test"])
def test_name_in_the_handshake_that_asks_for_no_certificate(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str, authority: OpensslAuthority, server_name: str | None
) -> None:
    """The Route has a Host and is reached by it, though the handshake named another server."""
    host = f"{unique('vault')}.test"
    service = blueprints.service(echo)
    blueprints.route(service, snis=[host], protocols=["https"])
    blueprints.route(service, hosts=[host], paths=["/by-host"])
    blueprints.plugin("mtls-auth", service, "service", ca_certificates=[trusted])
    gateway.settle()
    assert_refused(ask(gateway, "/by-host", None, server_name=server_name, host=host), echo, ABSENT)
    assert ask(gateway, "/by-host", authority.issue(ALICE), server_name=host, host=host).status == 200


def test_host_of_a_route_whose_name_is_asked_for_by_another_handshake(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str, authority: OpensslAuthority
) -> None:
    """Only `snis` is set: another name in the handshake leads to no Route, whatever Host says."""
    name = f"{unique('only')}.test"
    route = blueprints.route(blueprints.service(echo), snis=[name], protocols=["https"])
    blueprints.plugin("mtls-auth", route, "route", ca_certificates=[trusted])
    gateway.settle()
    for server_name in ("open.test", None):
        assert ask(gateway, "/", authority.issue(ALICE), server_name=server_name, host=name).status == 404
    assert_refused(ask(gateway, "/", None, server_name=name.upper(), host=name), echo, ABSENT)
    assert ask(gateway, "/", authority.issue(ALICE), server_name=name.upper(), host=name).status == 200


def test_plain_http_listener(gateway: Gateway, echo: Origin, path: str) -> None:
    with gateway.connect() as client:
        assert_refused(client.send(request(path)).read_reply(), echo, ABSENT)
    with gateway.connect() as client:
        assert_refused(client.send(request(path, "api.test", "X-Forwarded-Proto: https")).read_reply(), echo, ABSENT)


def test_certificate_forged_in_a_header(gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority) -> None:
    issued = authority.issue(ALICE)
    pem = issued.certificate.read_text()
    der = base64.b64encode(openssl("x509", "-in", issued.certificate, "-outform", "DER")).decode()
    lines = (
        f"X-Client-Cert: {quote(pem)}",
        f"X-SSL-Client-Cert: {quote(pem)}",
        f"X-Forwarded-Client-Cert: Cert={quote(pem)}",
        f"Client-Cert: :{der}:",
        f"X-Client-Cert-Dn: CN={ALICE}",
        "SSL-Client-Verify: SUCCESS",
    )
    assert_refused(ask(gateway, path, None, *lines), echo, ABSENT)
    forged = [f"{name}: CN=root" for name in ("X-Client-Cert-Dn", "x_client_cert_dn", "X.Client-Cert_San", "X-CLIENT-CERT-SAN")]
    assert ask(gateway, path, issued, *forged).status == 200
    assert [name for name, _ in echo.requests[0].headers if "client" in name.lower()] == []


def test_connection_from_before_the_plugin(gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str) -> None:
    """Nobody asked it for a certificate; it is refused all the same."""
    name = f"{unique('later')}.test"
    route = blueprints.route(blueprints.service(echo), hosts=[name], snis=[name], protocols=["https"])
    gateway.settle()
    with Client.tls(gateway.proxy_tls_port, name, context_of(None)) as client:
        assert client.send(request("/", name)).read_reply().status == 200
        blueprints.plugin("mtls-auth", route, "route", ca_certificates=[trusted])
        gateway.settle()
        echo.forget()
        assert_refused(client.send(request("/", name)).read_reply(), echo, ABSENT)


def test_authority_no_longer_trusted_on_a_living_connection(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, trusted: str, tmp_path: Path
) -> None:
    brief = OpensslAuthority(tmp_path / "brief", "Brief")
    id_ = gateway.admin.post("/ca_certificates", {"cert": brief.pem})["id"]
    route = blueprints.route(blueprints.service(echo))
    plugin = blueprints.plugin("mtls-auth", route, "route", ca_certificates=[trusted, id_])
    gateway.settle()
    path = route["paths"][0]
    with Client.tls(gateway.proxy_tls_port, "api.test", context_of(brief.issue(ALICE))) as client:
        assert client.send(request(path)).read_reply().status == 200
        gateway.admin.patch(f"/plugins/{plugin['id']}", {"config": {"ca_certificates": [trusted]}})
        gateway.settle()
        echo.forget()
        assert_refused(client.send(request(path)).read_reply(), echo)


@pytest.mark.parametrize("name", ["ali\x00ce", "alice\nroot", "alice/CN=root", "ALICE", " alice", "alice\u200b", "x" * 64])
def test_names_that_look_like_anothers(gateway: Gateway, echo: Origin, path: str, authority: OpensslAuthority, name: str) -> None:
    # OpenSSL's command line takes no such names.
    issued = authority.issue_for(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    assert_refused(ask(gateway, path, issued), echo)
