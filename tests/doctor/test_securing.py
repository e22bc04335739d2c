# SPDX-License-Identifier: Apache-2.0
"""Is http told from https, both ways, and is it said what is wrong with a certificate?"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae.doctor.findings import Finding
from tests.doctor.conftest import MakeOrigin
from tests.doctor.probing import find, only
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.origin import Connection, answer, good
from tests.support.ports import free_port
from tests.support.servers.nginx import Nginx

TO_HTTPS = "curl -X PATCH http://localhost:8001/services/orders --data protocol=https"
TO_HTTP = "curl -X PATCH http://localhost:8001/services/orders --data protocol=http"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One that nobody has signed, for names and addresses of this machine."""
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def nginx(certificate: Certificate) -> Iterator[int]:
    """A real TLS server's port."""
    port = free_port()
    with Nginx.tls_origin(port, str(certificate.certificate), str(certificate.key)):
        yield port


def verified(port: int, trusted: Path, **fields: str) -> list[Finding]:
    """What is found at a TLS port whose certificate is checked."""
    return find(port, "https", verifies=True, bundles=(str(trusted),), **fields)


def test_plain_http_to_a_tls_port_of_nginx(nginx: int) -> None:
    finding = only(find(nginx))
    assert (finding.cause, finding.finding) == ("plain_http_to_tls_port", "plain_http_to_tls")
    assert finding.confidence >= 0.8
    assert TO_HTTPS in finding.cure


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_plain_http_to_a_tls_port_behind_a_load_balancer(nginx: int, certificate: Certificate, protocol: str) -> None:
    port = free_port()
    tls = f" ssl; ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key}"
    listen = f"{port}{tls if protocol == 'https' else ''}"
    server = f"server {{ listen 127.0.0.1:{listen}; location / {{ proxy_pass http://127.0.0.1:{nginx}; }} }}"
    with Nginx(server, [port]):
        finding = only(find(port, protocol))
    assert (finding.hop, finding.cause, finding.finding) == ("second_lb", "plain_http_to_tls_port", "plain_http_to_tls_behind")
    assert finding.confidence <= 0.75
    assert finding.probes
    assert TO_HTTPS not in finding.cure


def test_plain_http_to_a_port_that_answers_with_an_alert(make_origin: MakeOrigin, certificate: Certificate) -> None:
    def alert(connection: Connection) -> None:
        connection.receive()
        connection.send(b"\x15\x03\x01\x00\x02\x02\x46")
        connection.close()

    finding = only(find(make_origin(alert).port))
    assert (finding.cause, finding.finding) == ("protocol_mismatch", "plain_http_to_tls")
    assert TO_HTTPS in finding.cure


def test_plain_http_to_a_tls_port_that_just_closes(make_origin: MakeOrigin, certificate: Certificate) -> None:
    finding = only(find(make_origin(good, tls=certificate.server_context()).port))
    assert finding.finding == "plain_http_to_tls"
    assert TO_HTTPS in finding.cure


@pytest.mark.parametrize("answers", [True, False])
def test_tls_to_a_port_that_speaks_plain_http(make_origin: MakeOrigin, *, answers: bool) -> None:
    def plain(connection: Connection) -> None:
        if connection.socket.recv(1, 2) == b"\x16":  # peeked
            if answers:
                connection.receive()
                connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.close()
            return
        good(connection)

    finding = only(find(make_origin(plain).port, "https"))
    assert (finding.cause, finding.finding) == ("upstream_tls_failed", "tls_to_plain")
    assert finding.confidence >= 0.8
    assert TO_HTTP in finding.cure


def test_tls_is_well_where_the_certificate_is_not_checked(nginx: int) -> None:
    assert find(nginx, "https") == []


def test_a_certificate_that_nobody_signed(nginx: int, authority: Authority) -> None:
    finding = only(verified(nginx, authority.certificate))
    assert (finding.cause, finding.finding) == ("upstream_certificate_rejected", "certificate_self_signed")
    assert "18:self-signed certificate" in finding.evidence[0]


def test_a_certificate_that_is_trusted_is_well(nginx: int, certificate: Certificate) -> None:
    findings = verified(nginx, certificate.certificate)
    assert [finding.finding for finding in findings if finding.is_broken] == []


def test_a_certificate_that_expires_within_a_month_is_a_warning(nginx: int, certificate: Certificate) -> None:
    finding = only(verified(nginx, certificate.certificate))
    assert (finding.finding, finding.is_broken) == ("certificate_expires_soon", False)
    assert finding.document()["status"] is None


def test_a_certificate_that_has_expired(make_origin: MakeOrigin, authority: Authority) -> None:
    old = authority.sign("old.test", valid_for=datetime.timedelta(days=-1))
    origin = make_origin(good, tls=old.server_context())
    finding = only(verified(origin.port, authority.certificate, host_header="old.test"))
    assert (finding.finding, finding.confidence >= 0.8) == ("certificate_expired", True)
    assert find(origin.port, "https") == []


def test_a_certificate_for_another_name(nginx: int, certificate: Certificate) -> None:
    finding = only(verified(nginx, certificate.certificate, host_header="shop.test"))
    assert finding.finding == "certificate_wrong_name"
    assert "localhost" in " ".join(finding.evidence)
    assert "shop.test" in finding.summary


def test_a_certificate_of_an_unknown_authority(
    make_origin: MakeOrigin, authority: Authority, tmp_path: Path, certificate: Certificate
) -> None:
    origin = make_origin(good, tls=authority.sign("signed.test").server_context())
    finding = only(verified(origin.port, certificate.certificate, host_header="signed.test"))
    assert finding.finding == "certificate_unknown_authority"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate(
    make_origin: MakeOrigin, authority: Authority, certificate: Certificate, version: ssl.TLSVersion
) -> None:
    context = certificate.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    finding = only(find(make_origin(good, tls=context).port, "https"))
    assert (finding.cause, finding.finding) == ("upstream_wants_certificate", "client_certificate_wanted")
    assert finding.confidence >= 0.8


def test_an_nginx_that_wants_a_client_certificate(authority: Authority, certificate: Certificate) -> None:
    port = free_port()
    server = (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate.certificate};\n"
        f"ssl_certificate_key {certificate.key}; ssl_client_certificate {authority.certificate}; ssl_verify_client on; }}"
    )
    with Nginx(server, [port]):
        finding = only(find(port, "https", service={"client_certificate": {"id": "5e0f6b51-0000-4000-8000-000000000002"}}))
    assert finding.cause == "upstream_wants_certificate"
    assert 0.7 <= finding.confidence < 0.8, "a load balancer may pass these words on from a server behind it"
    assert "curl -X PATCH http://localhost:8001/services/orders --data host=PROXY --data port=PORT" in finding.cure
    assert not any("client_certificate.id" in line for line in finding.cure)


def test_a_server_of_the_last_century(make_origin: MakeOrigin, certificate: Certificate) -> None:
    context = certificate.server_context()
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    finding = only(find(make_origin(good, tls=context).port, "https"))
    assert (finding.cause, finding.finding) == ("upstream_tls_failed", "tls_no_common_version_or_cipher")
    assert "the server agrees to TLSv1.2" in " ".join(finding.evidence)


def test_a_server_that_does_not_know_the_name(make_origin: MakeOrigin, certificate: Certificate) -> None:
    context = certificate.server_context()

    def refuse(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name == "shop.test" else None

    context.sni_callback = refuse
    finding = only(find(make_origin(good, tls=context).port, "https", host_header="shop.test"))
    assert finding.finding == "server_name_refused"


def test_a_load_balancer_that_expects_the_proxy_protocol_before_tls(certificate: Certificate) -> None:
    port = free_port()
    server = (
        f"server {{ listen 127.0.0.1:{port} ssl proxy_protocol; ssl_certificate {certificate.certificate};\n"
        f'ssl_certificate_key {certificate.key}; location / {{ return 200 "ok"; }} }}'
    )
    with Nginx(server, [port]):
        finding = only(find(port, "https"))
    assert (finding.cause, finding.finding) == ("upstream_tls_failed", "expects_proxy_protocol")


def test_a_bare_answer_is_well_over_tls(make_origin: MakeOrigin, certificate: Certificate) -> None:
    assert find(make_origin(answer(b"ok"), tls=certificate.server_context()).port, "https") == []
