# SPDX-License-Identifier: Apache-2.0
"""Does the record of a failed attempt hold what a person would else find out by hand: name, handshake, timer, who closed, how?"""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, good, plain_to_tls, silent
from tests.support.ports import free_port
from tests.support.raw import request
from tests.support.servers.dns import NameServer
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx

MakeOrigin = Callable[[Behaviour], Origin]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    server = NameServer()
    server.set_a("origin.test", "127.0.0.1", ttl_s=77)
    server.set_a("tls.test", "127.0.0.1")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "evidence-ca")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.sign("tls.test", "tls.test", "127.0.0.1", "other.test")


@pytest.fixture(scope="module")
def gateway(names: NameServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    files = tmp_path_factory.mktemp("dns")
    (files / "hosts").write_text("127.0.0.1 localhost filed.test\n")
    settings = {
        "plugins": "bundled,probe-response",
        "dns_resolver": names.address,
        "dns_hostsfile": str(files / "hosts"),
        "lua_ssl_trusted_certificate": str(authority.certificate),
    }
    with Gateway(settings) as started:
        yield started


def failed(gateway: Gateway, path: str, *, data: bytes | None = None, status: int = 502) -> tuple[Record, Record]:
    """The record of a request that fails, and its last attempt."""
    reply = gateway.send(data, "POST") if data else gateway.get(path)
    assert reply.status == status
    (line,) = gateway.failures.wait_for(reply.request_id)
    record = json.loads(line)
    return record, record["attempts"][-1]


# === the name ===


@pytest.mark.parametrize(("host", "state"), [("127.0.0.1", "literal"), ("filed.test", "hosts"), ("origin.test", "fresh")])
def test_an_attempt_says_where_its_address_came_from(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, host: str, state: str
) -> None:
    _, attempt = failed(gateway, blueprints.path(f"http://{host}:{free_port()}/", retries=0))
    assert attempt["dns"]["state"] == state
    assert attempt["ended"] == "refused"
    if state == "fresh":
        assert (attempt["dns"]["ttl_ms"], attempt["dns"]["server"]) == (77_000, names.address)
        assert 0 <= attempt["dns"]["age_ms"] < 77_000


def test_a_target_s_attempt_says_so_too(gateway: Gateway, blueprints: Blueprints) -> None:
    upstream = blueprints.upstream(f"origin.test:{free_port()}")
    _, attempt = failed(gateway, blueprints.path(f"http://{upstream['name']}/", retries=0))
    assert (attempt["dns"]["state"], attempt["dns"]["ttl_ms"]) == ("fresh", 77_000)


# === the handshake ===


def test_a_certificate_that_is_rejected_is_shown(gateway: Gateway, blueprints: Blueprints, tmp_path: Path) -> None:
    unknown = self_signed(tmp_path, "unknown.test", "127.0.0.1")
    with Origin(good, tls=unknown.server_context()) as origin:
        record, attempt = failed(gateway, blueprints.path(origin, tls_verify=True, retries=0))
    assert record["fault"] == "upstream_certificate_rejected"
    tls = attempt["tls"]
    assert (tls["subject"], tls["names"], tls["verified"]) == ("CN=unknown.test", ["unknown.test", "127.0.0.1"], False)
    assert tls["not_after"].startswith("20")
    assert tls["alert"].startswith("sent: ")
    assert attempt["ended"] == "closed by us"
    assert attempt["connect_ms"] is not None
    assert "tls_ms" not in attempt


@pytest.mark.parametrize(
    ("version", "alert"),
    [(ssl.TLSVersion.TLSv1_2, "received: handshake_failure"), (ssl.TLSVersion.TLSv1_3, "received: certificate_required")],
)
@pytest.mark.parametrize("body", [b"", b"x" * 300_000])
def test_a_client_certificate_that_is_wanted_is_no_premature_close(
    gateway: Gateway,
    blueprints: Blueprints,
    authority: Authority,
    certificate: Certificate,
    version: ssl.TLSVersion,
    alert: str,
    body: bytes,
) -> None:
    """With TLS 1.3 the server says so after the handshake, to whoever reads (or writes) first."""
    context = certificate.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    with Origin(good, tls=context) as origin:
        path = blueprints.path(origin, retries=0, tls_verify=False)
        record, attempt = failed(gateway, path, data=request("POST", path, body=body))
        assert not origin.requests
    assert (record["fault"], record["may_have_acted"]) == ("upstream_wants_certificate", False)
    assert (attempt["tls"]["alert"], attempt["tls"]["wants_certificate"]) == (alert, True)


def test_a_late_alert_sends_nothing_again_whose_body_is_gone(
    gateway: Gateway, blueprints: Blueprints, authority: Authority, certificate: Certificate
) -> None:
    context = certificate.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    with Origin(good, tls=context) as origin:
        path = blueprints.path(origin, {"request_buffering": False}, retries=3, tls_verify=False)
        record, attempt = failed(gateway, path, data=request("POST", path, body=b"x" * 300_000))
        assert origin.connections == 1
    assert record["fault"] == "upstream_wants_certificate"
    assert attempt["again"] == "not sent again: its body was passed on as it came, and is gone"
    assert attempt["request_bytes"] > 300_000


def test_whose_certificates_haproxy_takes_is_said(
    gateway: Gateway, blueprints: Blueprints, authority: Authority, certificate: Certificate
) -> None:
    port = free_port()
    haproxy = Haproxy(port, free_port())
    pair = haproxy.folder / "pair.pem"
    pair.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
    bind = f"bind 127.0.0.1:{port} ssl crt {pair} ca-file {authority.certificate} verify required"
    (haproxy.folder / "haproxy.cfg").write_text(
        f"defaults\n  mode http\n  timeout client 30s\nfrontend front\n  {bind}\n  http-request return status 200\n"
    )
    with haproxy:
        record, attempt = failed(gateway, blueprints.path(f"https://127.0.0.1:{port}/", retries=0, tls_verify=False))
    assert record["fault"] == "upstream_wants_certificate"
    assert "it accepts those of CN=evidence-ca" in attempt["detail"]


def test_no_version_in_common_is_said(gateway: Gateway, blueprints: Blueprints, certificate: Certificate) -> None:
    port = free_port()
    old = "ssl_protocols TLSv1.1; ssl_ciphers DEFAULT:@SECLEVEL=0;"
    pair = f"ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};"
    with Nginx(f"server {{ listen 127.0.0.1:{port} ssl; {pair} {old} }}", [port]):
        record, attempt = failed(gateway, blueprints.path(f"https://127.0.0.1:{port}/", retries=0, tls_verify=False))
    assert record["fault"] == "upstream_tls_failed"
    assert attempt["tls"]["alert"] == "received: protocol_version"
    assert "TLS 1.2" in attempt["detail"]


def test_a_name_that_the_server_refuses_is_named(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    with Nginx(f"server {{ listen 127.0.0.1:{port} ssl; ssl_reject_handshake on; }}", [port]):
        record, attempt = failed(gateway, blueprints.path(f"https://tls.test:{port}/", retries=0, tls_verify=False))
    assert record["fault"] == "upstream_tls_failed"
    assert (attempt["tls"]["sni"], attempt["tls"]["alert"]) == ("tls.test", "received: unrecognized_name")
    assert "`tls.test`" in attempt["detail"]


def hang_up_at_the_hello(connection: Connection) -> None:
    connection.receive()
    connection.close()


def hang_up_after_some_bytes(connection: Connection) -> None:
    connection.receive()
    connection.send(b"\x16\x03\x03\x00\x7a\x02\x00")
    connection.close()


def reset_at_the_hello(connection: Connection) -> None:
    connection.receive()
    connection.reset()


@pytest.mark.parametrize(
    ("behaviour", "ended", "place"),
    [
        (hang_up_at_the_hello, "fin", "at the hello, without a byte"),
        (hang_up_after_some_bytes, "fin", "in the middle of the handshake"),
        (reset_at_the_hello, "rst", "at the hello, without a byte"),
    ],
)
def test_who_ended_a_handshake_and_where_is_said(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, behaviour: Behaviour, ended: str, place: str
) -> None:
    path = blueprints.path(f"https://127.0.0.1:{make_origin(behaviour).port}/", retries=0, tls_verify=False)
    record, attempt = failed(gateway, path)
    assert (record["fault"], attempt["ended"]) == ("upstream_tls_failed", ended)
    assert place in attempt["detail"]
    assert "sni" not in attempt["tls"], "an address is no name"


def test_what_spoke_in_the_place_of_tls_is_shown(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = blueprints.path(f"https://127.0.0.1:{make_origin(plain_to_tls).port}/", retries=0, tls_verify=False)
    record, attempt = failed(gateway, path)
    assert record["fault"] == "upstream_tls_failed"
    assert attempt["first_bytes"].startswith("HTTP/1.1 400 Bad Request")
    assert attempt["first_bytes_hex"].replace(" ", "").startswith("485454502f312e31")


def test_a_silent_handshake_ends_by_the_timer_of_connecting(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(lambda connection: connection.wait_gone())
    path = blueprints.path(f"https://127.0.0.1:{origin.port}/", retries=0, tls_verify=False, connect_timeout=300)
    record, attempt = failed(gateway, path, status=504)
    assert record["fault"] == "connect_timeout"
    assert attempt["timer"] == {"name": "connect_timeout", "ms": 300}
    assert attempt["connect_ms"] < 300
    assert "tls_ms" not in attempt
    assert attempt["ended"] == "timeout: connect"
    gateway.error_log.wait_for("while SSL handshaking to upstream")


def test_a_pooled_connection_tells_of_its_own_handshake(
    gateway: Gateway, blueprints: Blueprints, certificate: Certificate
) -> None:
    def answer_once(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.read_body(connection.read_head())
        connection.close()

    with Origin(answer_once, tls=certificate.server_context()) as origin:
        path = blueprints.path(origin, retries=0, tls_verify=True)
        assert gateway.get(path).status == 200
        _, attempt = failed(gateway, path, data=request("POST", path, body=b"x"))
    assert (attempt["reused"], attempt["connect_ms"]) == (1, None)
    assert attempt["our_idle_limit_ms"] == 60_000
    assert attempt["tls"]["version"] == "TLSv1.3"
    assert (attempt["tls"]["subject"], attempt["tls"]["verified"]) == ("CN=tls.test", True)


# === timers, ends, bytes ===


def test_the_timer_of_reading_is_named_and_the_moments_before_it_are_kept(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    record, attempt = failed(gateway, blueprints.path(make_origin(silent), retries=0, read_timeout=200), status=504)
    assert (record["fault"], attempt["ended"]) == ("read_timeout", "timeout: read")
    assert attempt["timer"] == {"name": "read_timeout", "ms": 200}
    assert attempt["sent_bytes"] == attempt["request_bytes"] > 0
    assert 0 <= attempt["connect_ms"] <= attempt["sent_ms"]
    assert "first_byte_ms" not in attempt


def test_a_reset_that_writing_meets_is_a_reset(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def reset_in_body(connection: Connection) -> None:
        connection.read_head()
        connection.read_exactly(100_000)
        connection.reset()

    path = blueprints.path(make_origin(reset_in_body), retries=0)
    record, attempt = failed(gateway, path, data=request("POST", path, body=b"x" * 8_000_000))
    assert record["fault"] in ("write_failed", "reset")
    assert attempt["ended"] == "rst"
    assert 100_000 < attempt["sent_bytes"] < attempt["request_bytes"]
    assert attempt["request_bytes"] > 8_000_000
    assert "sent_ms" not in attempt


def test_an_answer_before_the_request_was_whole_is_seen(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    is_told = threading.Event()

    def refuse(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert is_told.wait(20), "the gateway waits until its whole body is read"

    path = blueprints.path(make_origin(refuse), retries=0)
    record, attempt = failed(gateway, path, data=request("POST", path, body=b"x" * 30_000_000), status=500)
    is_told.set()
    assert record["fault"] == "upstream_error"
    assert attempt["sent_bytes"] < attempt["request_bytes"]
    assert "sent_ms" not in attempt
    assert attempt["first_byte_ms"] <= attempt["head_ms"]


def test_a_head_that_is_too_large_names_its_largest_field(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def boast(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nServer: x\r\nX-Small: a\r\nSet-Cookie: " + b"s3cret" * 20_000 + b"\r\n\r\n")
        connection.wait_gone()

    record, attempt = failed(gateway, blueprints.path(make_origin(boast), retries=0))
    assert record["fault"] == "response_header_too_large"
    assert attempt["largest_header"]["name"] == "Set-Cookie"
    assert attempt["largest_header"]["bytes"] > 60_000
    assert attempt["head_bytes"] > attempt["head_limit_bytes"] == 65_536
    assert "s3cret" not in json.dumps(record)
    assert attempt["first_bytes"].startswith("HTTP/1.1 200 OK"), "its first line, and no field"


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_where_in_the_head_it_ended_is_said(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, piece: bytes
) -> None:
    def break_off(connection: Connection) -> None:
        connection.read_head()
        connection.send(piece)
        connection.close()

    record, attempt = failed(gateway, blueprints.path(make_origin(break_off), retries=0))
    assert (record["fault"], attempt["ended"], attempt["received_bytes"]) == ("closed_before_headers", "fin", len(piece))
    assert attempt.get("head_bytes", 0) == len(piece)
    assert ("first_byte_ms" in attempt) == bool(piece)


@pytest.mark.parametrize(
    ("end", "ended", "fault"),
    [
        (Connection.close, "fin", "closed_in_body"),
        (Connection.reset, "rst", "reset_in_body"),
        (Connection.wait_gone, "timeout: read", "read_timeout_in_body"),
    ],
)
@pytest.mark.parametrize("plugin", ["", "probe-response"])
def test_who_ended_a_body_and_how_is_said(
    gateway: Gateway,
    blueprints: Blueprints,
    make_origin: MakeOrigin,
    end: Callable[[Connection], None],
    ended: str,
    fault: str,
    plugin: str,
) -> None:
    """Be it passed on as it comes, or read whole for a plugin."""
    came = threading.Event()

    def break_off(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        assert plugin or came.wait(10), "the first half came through"
        end(connection)

    service = blueprints.service(make_origin(break_off), read_timeout=300, retries=0)
    route = blueprints.route(service)
    if plugin:
        blueprints.plugin(plugin, route, "route")
    gateway.settle()
    with gateway.connect() as client:
        client.send(request("GET", route["paths"][0]))
        if not plugin:
            head = client.read_head()
            assert client.read_exactly(4) == b"half"
            came.set()
            request_id = head.request_id
            client.read_to_end()
        else:
            reply = client.read_reply()
            assert reply.status == (504 if fault == "read_timeout_in_body" else 502)
            request_id = reply.request_id
    (line,) = gateway.failures.wait_for(request_id)
    record = json.loads(line)
    attempt = record["attempts"][-1]
    assert (record["fault"], attempt["fault"], attempt["ended"], attempt["status"]) == (fault, fault, ended, 200)
    assert attempt.get("timer") == ({"name": "read_timeout", "ms": 300} if fault == "read_timeout_in_body" else None)


# === before it breaks ===


def test_a_certificate_that_ends_soon_is_warned_of(gateway: Gateway, blueprints: Blueprints, authority: Authority) -> None:
    soon = authority.sign("soon.test", "127.0.0.1", valid_for=datetime.timedelta(days=20), file="soon")
    late = authority.sign("late.test", "127.0.0.1", valid_for=datetime.timedelta(days=40), file="late")
    with Origin(good, tls=late.server_context()) as lasting, Origin(good, tls=soon.server_context()) as ending:
        for origin in (lasting, ending):
            assert gateway.get(blueprints.path(origin, tls_verify=False)).status == 200
        (line,) = gateway.error_log.wait_for("CN=soon.test")
    assert f"127.0.0.1:{ending.port}" in line
    assert "[warn]" in line
    assert not gateway.error_log.containing("late.test")


def test_a_server_that_closes_idle_connections_before_we_do_is_warned_of(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    """Three closes at different moments, after the same idleness, show its habit."""

    def close_when_idle(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.pause(0.2)
        connection.close()

    origin = make_origin(close_when_idle)
    path = blueprints.path(origin)
    for _ in range(3):
        assert gateway.get(path).status == 200
        origin.wait_idle()
    gateway.error_log.wait_for(f"keepalive.learned address=127.0.0.1:{origin.port}")
    (line,) = gateway.error_log.wait(bool, f"the server at `127.0.0.1:{origin.port}` closes connections that idled")
    assert "upstream_keepalive_idle_timeout" in line
