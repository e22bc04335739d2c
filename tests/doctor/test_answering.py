# SPDX-License-Identifier: Apache-2.0
"""Is it told what a server does instead of answering, and who wrote what it answers?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doctor.conftest import MakeOrigin
from tests.doctor.probing import aim_at, find, judge, only, see
from tests.support import origin as origins
from tests.support.origin import Behaviour, Connection, answer, close_on_accept, early_close, good, reset, send_then_close
from tests.support.ports import free_port
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx


@pytest.mark.parametrize(
    ("behaviour", "cause", "finding"),
    [
        (close_on_accept, "reset", "closed_without_answer"),
        (early_close, "closed_before_headers", "closed_without_answer"),
        (reset, "reset", "closed_without_answer"),
        (origins.RECORDED["garbage_status"], "protocol_mismatch", "not_http"),
        (origins.RECORDED["bad_header"], "bad_response", "invalid_head"),
        (origins.RECORDED["dup_content_length"], "bad_response", "invalid_head"),
        (origins.RECORDED["partial_header"], "closed_before_headers", "closed_without_answer"),
        (answer(b"", status="431 Request Header Fields Too Large"), "header_too_large_behind", "request_header_too_large"),
    ],
)
def test_what_comes_instead_of_an_answer(make_origin: MakeOrigin, behaviour: Behaviour, cause: str, finding: str) -> None:
    found = only(find(make_origin(behaviour).port))
    assert (found.cause, found.finding, found.hop) == (cause, finding, "upstream")
    assert found.cure


def test_a_server_that_crashes_is_no_sure_verdict(make_origin: MakeOrigin) -> None:
    found = only(find(make_origin(early_close).port))
    assert found.confidence < 0.8
    assert found.probes


def test_a_server_that_falls_silent_before_the_gateway_would_give_up_is_a_warning(make_origin: MakeOrigin) -> None:
    origin = make_origin(origins.silent)
    found = only(find(origin.port, patience_s=0.2))
    assert (found.cause, found.is_broken) == ("read_timeout", False)
    assert found.confidence < 0.8
    broken = only(find(origin.port, patience_s=0.3, service={"read_timeout": 100}))
    assert broken.is_broken


def test_a_server_that_speaks_http2_alone() -> None:
    port = free_port()
    with Nginx(f'server {{ listen 127.0.0.1:{port} http2; location / {{ return 200 "ok"; }} }}', [port]):
        found = only(find(port))
    assert found.finding == "http2_only"
    assert found.confidence >= 0.8


def test_a_load_balancer_that_expects_the_proxy_protocol() -> None:
    port = free_port()
    with Nginx(f'server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 "ok"; }} }}', [port]):
        found = only(find(port))
    assert found.finding == "expects_proxy_protocol"


def test_another_protocol_is_quoted(make_origin: MakeOrigin) -> None:
    def ssh(connection: Connection) -> None:
        connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")
        connection.receive()

    found = only(find(make_origin(ssh).port))
    assert found.cause == "protocol_mismatch"
    assert "SSH-2.0-OpenSSH" in found.evidence[0]


@pytest.fixture(scope="module")
def nginx_without_server() -> Iterator[int]:
    """An nginx that passes requests on to nobody."""
    port, nobody = free_port(), free_port()
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{nobody}; }} }}"
    with Nginx(server, [port]):
        yield port


def test_a_502_of_nginx_behind_us_is_the_second_load_balancers(nginx_without_server: int) -> None:
    found = only(find(nginx_without_server))
    assert (found.cause, found.hop, found.written_by) == ("bad_gateway_behind", "second_lb", "nginx")
    assert found.confidence >= 0.8
    assert found.document()["status"] == 502


def test_a_503_of_haproxy_behind_us_is_the_second_load_balancers() -> None:
    port = free_port()
    with Haproxy(port, free_port()):
        found = only(find(port, patience_s=10.0))  # it tries three times more, once a second
    assert (found.cause, found.hop, found.written_by) == ("unavailable_behind", "second_lb", "haproxy")


def test_a_503_of_an_application_is_not_blamed_on_a_load_balancer(make_origin: MakeOrigin) -> None:
    found = only(find(make_origin(answer(b"we rest today", status="503 Service Unavailable")).port))
    assert (found.hop, found.written_by) == ("upstream", "application")
    assert found.confidence < 0.8


def test_a_503_without_anything_that_tells_is_of_an_unknown_author(make_origin: MakeOrigin) -> None:
    found = only(find(make_origin(answer(b"", status="503 Service Unavailable")).port))
    assert (found.hop, found.written_by, found.confidence) == ("upstream", "unknown", 0.5)


def test_a_500_of_a_path_that_nobody_asked_for_breaks_nothing(make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b"oops", status="500 Internal Server Error"))
    assert not only(find(origin.port)).is_broken
    assert only(find(origin.port, is_given=True)).is_broken


@pytest.mark.parametrize("status", ["200 OK", "301 Moved", "401 Unauthorized", "404 Not Found", "405 Method Not Allowed"])
def test_what_a_server_says_of_the_request_is_no_fault(make_origin: MakeOrigin, status: str) -> None:
    assert find(make_origin(answer(b"x", status=status)).port) == []


def test_a_server_that_closes_after_an_answer_without_saying_so(make_origin: MakeOrigin) -> None:
    found = only(find(make_origin(answer(b"ok", keep_alive=False)).port))
    assert (found.finding, found.is_broken) == ("closed_at_reuse", False)


def test_a_server_that_says_that_it_closes_is_well(make_origin: MakeOrigin) -> None:
    assert find(make_origin(answer(b"ok", "Connection: close", keep_alive=False)).port) == []


def test_a_head_near_the_limit_names_the_header_and_not_its_value(make_origin: MakeOrigin) -> None:
    found = only(find(make_origin(answer(b"", "X-Policy: " + "secret " * 8000)).port))
    assert (found.finding, found.is_broken) == ("response_header_near_limit", False)
    assert "X-Policy" in found.evidence[0]
    assert "secret" not in str(found.document())
    over = find(
        make_origin(send_then_close(b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n")).port
    )
    assert any(finding.finding == "response_header_too_large" and finding.is_broken for finding in over)


def test_nothing_but_head_and_get_is_sent_on_ones_own_account(make_origin: MakeOrigin) -> None:
    for behaviour in (good, answer(b"oops", status="502 Bad Gateway"), early_close, answer(b"", keep_alive=False)):
        origin = make_origin(behaviour)
        find(origin.port)
        assert {request.method for request in origin.requests} <= {"HEAD", "GET", "PRI", "PROXY"}
        assert all(not request.body for request in origin.requests)


def unlike_head(body: bytes, *lines: str) -> Behaviour:
    """Answers HEAD well, and GET with this body."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()

    def serve(connection: Connection) -> None:
        while True:
            received = connection.read_head()
            connection.send(head if received.method == "HEAD" else head + body)
            if received.method == "GET":
                connection.close()
                return

    return serve


@pytest.mark.parametrize(
    ("body", "line", "cause"),
    [
        (b"0123456789", "Content-Length: 100", "closed_in_body"),
        (b"5\r\nhello\r\n", "Transfer-Encoding: chunked", "closed_in_body"),
        (b"zz\r\nhello\r\n", "Transfer-Encoding: chunked", "bad_response_body"),
        (b"5\r\nhello!!0\r\n\r\n", "Transfer-Encoding: chunked", "bad_response_body"),
        (b"", "Transfer-Encoding: gzip", "bad_response"),
    ],
)
def test_a_body_that_is_not_as_its_head_says(make_origin: MakeOrigin, body: bytes, line: str, cause: str) -> None:
    found = only(find(make_origin(unlike_head(body, line)).port))
    assert (found.cause, found.hop, found.phase) == (cause, "upstream", "read_answer")


def test_whole_bodies_are_well(make_origin: MakeOrigin) -> None:
    for body, line in (
        (b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", "Transfer-Encoding: chunked"),
        (b"f;a=b\r\n" + b"a" * 15 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        (b"until the end", "Connection: close"),
        (b"a" * 100_000, "Content-Length: 100000"),
    ):
        assert find(make_origin(unlike_head(body, line)).port) == []


def test_a_body_that_stops_is_a_warning_while_the_gateway_would_wait(make_origin: MakeOrigin) -> None:
    def stop(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        connection.wait_gone()

    found = only(find(make_origin(stop).port, patience_s=0.3))
    assert (found.cause, found.is_broken) == ("read_timeout_in_body", False)


def test_a_users_own_request_is_sent_once_and_as_it_is(make_origin: MakeOrigin) -> None:
    origin = make_origin(good)
    aim = aim_at(
        origin.port, method="POST", body=b'{"a":1}', path="/orders?x=1", headers=[("Authorization", "Bearer x")], is_given=True
    )
    assert judge(see(aim, origin.port)) == []
    (request,) = origin.requests
    assert (request.method, request.target, request.body) == ("POST", "/orders?x=1", b'{"a":1}')
    assert request.header("Authorization") == "Bearer x"
