# SPDX-License-Identifier: Apache-2.0
"""Who wrote this 502? Answers of real load balancers and of applications, passed on untouched, are told apart in the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, silent
from tests.support.ports import free_port
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx

SETTINGS = {"plugins": "bundled,probe-response"}

MakeOrigin = Callable[[Behaviour], Origin]


def told(gateway: Gateway, path: str, status: int, *lines: str) -> dict[str, Any]:
    """What the record says of an answer of this status: `fault`, `written_by`, `mark`."""
    reply = gateway.get(path, *lines)
    assert reply.status == status
    (line,) = gateway.failures.wait_for(reply.request_id)
    record = json.loads(line)
    assert len(record["attempts"]) == 1, "nothing is tried again"
    gateway.access_log.wait_for(f'fault: "{record["fault"]}"')
    return {"fault": record["fault"], **record["answer"]}


def nginx(port: int, inside: str) -> Nginx:
    return Nginx(f"server {{ listen 127.0.0.1:{port}; {inside} }}", [port])


def test_nginx_whose_server_is_gone(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    with nginx(port, f"location / {{ proxy_pass http://127.0.0.1:{free_port()}; }}"):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 502)
    assert (said["fault"], said["written_by"]) == ("bad_gateway_behind", "nginx")
    assert "<center>nginx" in said["mark"]


def test_nginx_whose_server_is_slow(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    port = free_port()
    with nginx(port, f"location / {{ proxy_read_timeout 100ms; proxy_pass http://127.0.0.1:{make_origin(silent).port}; }}"):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 504)
    assert (said["fault"], said["written_by"]) == ("timeout_behind", "nginx")


def test_haproxy_without_a_server(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    with Haproxy(port, free_port()):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 503)
    assert (said["fault"], said["written_by"]) == ("unavailable_behind", "haproxy")


def test_haproxy_whose_server_closes_early(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def hang_up(connection: Connection) -> None:
        connection.read_head()
        connection.close()

    port = free_port()
    with Haproxy(port, make_origin(hang_up).port):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 502)
    assert (said["fault"], said["written_by"]) == ("bad_gateway_behind", "haproxy")


def test_an_application_behind_nginx_is_not_nginx(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    port = free_port()
    with nginx(port, f"location / {{ proxy_pass http://127.0.0.1:{make_origin(oops(500)).port}; }}"):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 500)
    assert (said["fault"], said["written_by"]) == ("upstream_error", "application")
    assert said["server"].startswith("nginx"), "although it put its name on it"


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_an_application_of_its_own(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, status: int) -> None:
    said = told(gateway, blueprints.path(make_origin(oops(status, "gunicorn"))), status)
    assert (said["fault"], said["written_by"]) == ("upstream_error", "application")


def test_a_502_that_no_known_proxy_writes_may_be_a_proxy_s_all_the_same(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    page = """error_page 502 @down; location @down { default_type application/json; return 502 '{"error": "bad gateway"}'; }"""
    with nginx(port, f"{page} location / {{ proxy_pass http://127.0.0.1:{free_port()}; }}"):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 502)
    assert (said["fault"], said["written_by"]) == ("bad_gateway_behind", "unknown")


def oops(status: int, server: str = "Python") -> Behaviour:
    """An application that fails, in JSON."""

    def serve(connection: Connection) -> None:
        connection.read_head()
        body = b'{"error": "database is locked", "secret": "hunter2"}'
        connection.send(f"HTTP/1.1 {status} Oops\r\nServer: {server}\r\nContent-Type: application/json\r\n".encode())
        connection.send(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.wait_gone()

    return serve


def test_the_body_itself_is_never_kept(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    reply = gateway.get(blueprints.path(make_origin(oops(500))))
    assert b"hunter2" in reply.body, "it passes untouched"
    (line,) = gateway.failures.wait_for(reply.request_id)
    assert "hunter2" not in line


PAGE = b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n"
FRAMINGS: dict[str, tuple[bytes, Callable[[bytes], bytes], bytes]] = {
    "length": (b"Content-Length: %d\r\n\r\n" % len(PAGE), lambda piece: piece, b""),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", lambda piece: b"%x\r\n%s\r\n" % (len(piece), piece), b"0\r\n\r\n"),
    "until close": (b"Connection: close\r\n\r\n", lambda piece: piece, b""),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("piece_bytes", [1, 40, len(PAGE)])
def test_a_body_that_comes_in_pieces_tells_as_much(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, framing: str, piece_bytes: int
) -> None:
    fields, frame, end = FRAMINGS[framing]

    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 503 Service Unavailable\r\n" + fields)
        for at in range(0, len(PAGE), piece_bytes):
            connection.send(frame(PAGE[at : at + piece_bytes]))
        connection.send(end)
        connection.close()

    said = told(gateway, blueprints.path(make_origin(serve)), 503)
    assert (said["fault"], said["written_by"]) == ("unavailable_behind", "haproxy")


def test_a_body_that_a_plugin_waits_for_tells_as_much(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(PAGE))
        for byte in PAGE:
            connection.send(bytes([byte]))
        connection.wait_gone()

    said = told(gateway, blueprints.plugged(make_origin(serve), "probe-response"), 503)
    assert (said["fault"], said["written_by"]) == ("unavailable_behind", "haproxy")


def test_an_empty_answer_tells_nothing(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 504 Gateway Timeout\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n")
        connection.wait_gone()

    said = told(gateway, blueprints.path(make_origin(serve)), 504)
    assert (said["fault"], said["written_by"]) == ("timeout_behind", "unknown")


def test_plain_http_on_a_tls_port_is_recognised(gateway: Gateway, blueprints: Blueprints, tmp_path: Path) -> None:
    pair, port = self_signed(tmp_path, "127.0.0.1"), free_port()
    with Nginx.tls_origin(port, str(pair.certificate), str(pair.key)):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 400)
    assert (said["fault"], said["written_by"]) == ("plain_http_to_tls_port", "nginx")


def test_a_client_certificate_that_nginx_wants_is_recognised(gateway: Gateway, blueprints: Blueprints, tmp_path: Path) -> None:
    """It shakes hands without one, and answers 400."""
    pair, port = self_signed(tmp_path, "127.0.0.1", is_authority=True), free_port()
    inside = f"ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key}; ssl_client_certificate {pair.certificate};"
    with Nginx(f"server {{ listen 127.0.0.1:{port} ssl; {inside} ssl_verify_client on; }}", [port]):
        said = told(gateway, blueprints.path(f"https://127.0.0.1:{port}/", tls_verify=False), 400)
    assert said["fault"] == "upstream_wants_certificate"


def test_a_head_that_is_too_large_for_nginx_is_recognised(gateway: Gateway, blueprints: Blueprints) -> None:
    port = free_port()
    with nginx(port, "large_client_header_buffers 2 1k; client_header_buffer_size 1k;"):
        said = told(gateway, blueprints.path(f"http://127.0.0.1:{port}/"), 400, "Cookie: " + "c" * 4000)
    assert said["fault"] == "header_too_large_behind"


def test_an_ordinary_400_is_nobody_s_fault(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, echo_path: str
) -> None:
    reply = gateway.get(blueprints.path(make_origin(oops(400))))
    assert reply.status == 400
    other = gateway.get(echo_path + "/after")
    (line,) = gateway.access_log.wait_for(reply.request_id)
    assert "fault:" not in line
    gateway.access_log.wait_for(other.request_id)
    assert not gateway.failures.containing(reply.request_id)


def test_a_good_answer_is_not_told_of(gateway: Gateway, echo_path: str) -> None:
    reply = gateway.get(echo_path)
    assert reply.status == 200
    gateway.access_log.wait_for(reply.request_id)
    assert not gateway.failures.containing(reply.request_id)
