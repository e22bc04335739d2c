# SPDX-License-Identifier: Apache-2.0
"""Which headers reach the upstream and the client, from whom, and in which spelling?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, answer, good
from tests.support.raw import request
from tests.support.transcripts import IDENTITY

MakeOrigin = Callable[[Behaviour], Origin]

FORWARDED = (
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.test",
    "X-Forwarded-Port: 4443",
    "X-Forwarded-Path: /original",
    "X-Forwarded-Prefix: /pre",
    "X-Real-IP: 203.0.113.8",
)


def test_what_the_gateway_adds_upstream(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    reply = gateway.get(echo_path + "/a?b=c", host="shop.test:81")
    sent = echo.last
    assert sent.request_line == "GET /a?b=c HTTP/1.1"
    assert dict(sent.headers) == {
        "Host": f"127.0.0.1:{echo.port}",
        "Connection": "keep-alive",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "shop.test",
        "X-Forwarded-Port": str(gateway.proxy_port),
        "X-Forwarded-Path": f"{echo_path}/a",
        "X-Forwarded-Prefix": echo_path,
        "X-Real-IP": "127.0.0.1",
        "Via": f"1.1 {IDENTITY}",
        "X-Kong-Request-Id": reply.request_id,
    }


def test_what_the_gateway_adds_for_the_client(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = blueprints.path(make_origin(answer(b"ok", "Server: theirs", "Via: 1.1 cache", "X-Own: 1")))
    reply = gateway.get(path)
    assert reply.header("Server") == "theirs"
    assert ", ".join(reply.all("Via")) == f"1.1 cache, 1.1 {IDENTITY}"
    assert reply.header("X-Own") == "1"
    for name in ("X-Kong-Upstream-Latency", "X-Kong-Proxy-Latency"):
        assert (reply.header(name) or "").isdigit(), name
    assert reply.header("X-Kong-Response-Latency") is None
    assert re.fullmatch("[0-9a-f]{32}", reply.request_id)


def test_an_answer_of_the_gateway_itself(gateway: Gateway) -> None:
    reply = gateway.get("/-/no-route")
    assert reply.header("Server") == IDENTITY
    assert reply.header("Via") is None
    assert (reply.header("X-Kong-Response-Latency") or "").isdigit()
    assert reply.header("X-Kong-Upstream-Latency") is None
    assert reply.header("X-Kong-Proxy-Latency") is None


def test_request_ids_do_not_repeat(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        ids = [client.send(request("GET", echo_path)).read_reply().request_id for _ in range(200)]
    assert len(set(ids)) == 200


def test_an_untrusted_peer_is_not_believed(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    gateway.get(echo_path + "/a", *FORWARDED, host="real.test")
    sent = echo.last
    assert sent.header("X-Forwarded-For") == "203.0.113.7, 127.0.0.1"
    assert sent.header("X-Forwarded-Proto") == "http"
    assert sent.header("X-Forwarded-Host") == "real.test"
    assert sent.header("X-Forwarded-Port") == str(gateway.proxy_port)
    assert sent.header("X-Forwarded-Path") == f"{echo_path}/a"
    assert sent.header("X-Forwarded-Prefix") == echo_path
    assert sent.header("X-Real-IP") == "127.0.0.1"


def test_repeated_forwarded_for_lines_become_one(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    gateway.get(echo_path, "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2")
    assert echo.last.header("X-Forwarded-For") == "1.1.1.1, 2.2.2.2, 127.0.0.1"


def test_via_is_appended_to(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    gateway.get(echo_path, "Via: 1.0 fred")
    assert echo.last.header("Via") == f"1.0 fred, 1.1 {IDENTITY}"


def test_names_keep_their_case_and_values_their_bytes(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    lines = ("x-lower: 1", "X-UPPER: 2", "X-MiXeD: 3", "X-Latin: \xe9\xff", "X-Empty:", "x_under_score: 4")
    gateway.get(echo_path, *lines)
    for line in lines:
        name, _, value = line.partition(":")
        assert (name, value.strip()) in echo.last.headers


def test_response_names_keep_their_case(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    lines = ("x-lower: 1", "X-UPPER: 2", 'etag: "a"', "SET-COOKIE: a=1", "SET-COOKIE: b=2", "X-Latin: \xe9")
    reply = gateway.get(blueprints.path(make_origin(answer(b"ok", *lines))))
    for line in lines:
        name, _, value = line.partition(":")
        assert (name, value.strip()) in reply.headers


def test_repeated_headers_stay_apart_and_in_order(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    gateway.get(echo_path, "X-Many: 1", "X-Other: x", "X-Many: 2", "Cookie: a=1", "Cookie: b=2")
    assert echo.last.all("X-Many") == ["1", "2"]
    assert "; ".join(echo.last.all("Cookie")) == "a=1; b=2"


def test_hop_by_hop_headers_of_the_upstream_stay_on_their_hop(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    lines = ("Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x")
    with gateway.connect() as client:
        reply = client.send(request("GET", blueprints.path(make_origin(answer(b"ok", *lines))))).read_reply()
        assert reply.header("X-Hop") is None
        assert reply.header("Keep-Alive") is None
        assert reply.header("Connection") == "keep-alive"


def test_an_interim_response_of_the_upstream_is_not_the_answer(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def hinting(connection: Connection) -> None:
        while True:
            connection.read_head()
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    path = blueprints.path(make_origin(hinting))
    for _ in range(3):
        reply = gateway.get(path)
        assert (reply.status, reply.body) == (200, b"ok")


def test_a_lone_question_mark_and_odd_bytes_go_through(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    for query in ("?", "?a=%41&b=[1]", "?a=b=c&&", "?%zz"):
        gateway.get(echo_path + "/p" + query)
        assert echo.last.target == "/p" + query


def test_preserve_host(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(echo, route={"preserve_host": True})
    gateway.get(path, host="shop.test:8080")
    assert echo.last.header("Host") == "shop.test:8080"


def test_the_prefix_stays_when_it_is_not_stripped(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(echo, route={"strip_path": False})
    gateway.get(path + "/a")
    assert echo.last.target == path + "/a"
    assert echo.last.header("X-Forwarded-Prefix") is None


def test_debug_headers_come_only_when_allowed(gateway: Gateway, echo_path: str) -> None:
    assert gateway.get(echo_path, "Kong-Debug: 1").header("Kong-Route-Id") is None


# === a peer that is trusted ===


@pytest.fixture(scope="module")
def trusting() -> Iterator[Gateway]:
    with Gateway({"trusted_ips": "127.0.0.1", "real_ip_header": "X-Forwarded-For", "real_ip_recursive": "on"}) as started:
        yield started


@pytest.fixture(scope="module")
def trusted_origin() -> Iterator[Origin]:
    with Origin(good) as origin:
        yield origin


@pytest.fixture(scope="module")
def trusted_path(trusting: Gateway, trusted_origin: Origin) -> str:
    return Blueprints(trusting).path(trusted_origin)


def test_a_trusted_peer_is_believed(trusting: Gateway, trusted_origin: Origin, trusted_path: str) -> None:
    trusting.get(trusted_path + "/a", *FORWARDED, host="real.test")
    sent = trusted_origin.last
    assert sent.header("X-Forwarded-Proto") == "https"
    assert sent.header("X-Forwarded-Host") == "shop.test"
    assert sent.header("X-Forwarded-Port") == "4443"
    assert sent.header("X-Forwarded-Path") == "/original"
    assert sent.header("X-Forwarded-Prefix") == "/pre"
    assert sent.header("X-Real-IP") == "203.0.113.7"
    assert (sent.header("X-Forwarded-For") or "").startswith("203.0.113.7, ")


def test_the_address_of_the_log_is_the_client_s(trusting: Gateway, trusted_path: str) -> None:
    trusting.access_log.mark()
    trusting.get(trusted_path, "X-Forwarded-For: 203.0.113.9, 127.0.0.1")
    # By its address: the line of the request of the test before may come late.
    (line,) = trusting.access_log.wait_for("203.0.113.9")
    assert line.startswith("203.0.113.9 - - [")


def test_an_address_that_is_none_changes_nothing(trusting: Gateway, trusted_origin: Origin, trusted_path: str) -> None:
    trusting.access_log.mark()
    trusting.get(trusted_path, "X-Forwarded-For: not-an-address")
    (line,) = trusting.access_log.wait_for("kong_request_id")
    assert line.startswith("127.0.0.1 - - [")
    assert trusted_origin.last.header("X-Real-IP") == "127.0.0.1"


def test_identity_headers_of_a_trusted_peer_stay(trusting: Gateway, trusted_origin: Origin, trusted_path: str) -> None:
    trusting.get(trusted_path, "X-Consumer-Username: from-the-gateway-before-us")
    assert trusted_origin.last.header("X-Consumer-Username") == "from-the-gateway-before-us"


# === headers = off ===


@pytest.fixture(scope="module")
def quiet() -> Iterator[Gateway]:
    with Gateway({"headers": "off", "headers_upstream": "off"}) as started:
        yield started


def test_headers_off_means_none_of_ours(quiet: Gateway, trusted_origin: Origin) -> None:
    path = Blueprints(quiet).path(trusted_origin)
    reply = quiet.get(path)
    ours = {"via", "x-kong-upstream-latency", "x-kong-proxy-latency", "x-kong-request-id"}
    assert not ours & {name.lower() for name, _ in reply.headers}
    assert reply.header("Server") == "mock"
    assert trusted_origin.last.header("X-Kong-Request-Id") is None
    refused = quiet.get("/-/no-route")
    assert refused.header("Server") is None
    assert refused.header("X-Kong-Response-Latency") is None
