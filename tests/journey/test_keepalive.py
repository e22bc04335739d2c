# SPDX-License-Identifier: Apache-2.0
"""When is a connection used again, towards the upstream and towards the client, and when not?"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, answer
from tests.support.raw import Client, request
from tests.support.wait import until

SETTINGS = {
    "upstream_keepalive_max_requests": 5,
    "upstream_keepalive_idle_timeout": 1,
    "upstream_keepalive_pool_size": 2,
    "nginx_http_keepalive_requests": 8,
}

MakeOrigin = Callable[[Behaviour], Origin]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# === towards the upstream ===


def test_one_connection_serves_many_clients(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b"ok"))
    path = blueprints.path(origin)
    for _ in range(4):
        assert gateway.get(path).status == 200
    assert origin.connections == 1


def test_a_connection_retires_after_its_number_of_requests(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(answer(b"ok"))
    path = blueprints.path(origin)
    for _ in range(10):
        assert gateway.get(path).status == 200
    assert [received.connection for received in origin.requests] == [1] * 5 + [2] * 5


def test_an_idle_connection_is_closed_in_its_time(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b"ok"))
    gateway.get(blueprints.path(origin))
    assert origin.open_connections == 1
    origin.wait_idle(4)


def test_the_pool_keeps_no_more_than_its_size(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    together = threading.Barrier(4)

    def meets(connection: Connection) -> None:
        connection.read_head()
        together.wait(10)
        connection.send(OK)
        connection.wait_gone()

    origin = make_origin(meets)
    path = blueprints.path(origin)
    clients = [gateway.connect().send(request("GET", path)) for _ in range(4)]
    for client in clients:
        assert client.read_reply().status == 200
        client.close()
    until(lambda: origin.open_connections <= 2, "the connections over the pool's size to close", 0.8)


def test_an_upstream_that_closes_what_is_idle_costs_nobody_a_request(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def closes_silently(connection: Connection) -> None:
        connection.read_head()
        connection.send(OK)
        connection.close()

    origin = make_origin(closes_silently)
    path = blueprints.path(origin)
    for _ in range(30):
        assert gateway.get(path).status == 200
        origin.wait_idle()
    assert not gateway.error_log.grave_lines()


class ClosesOnReuse:
    """Answers the first request of a connection; takes the second and closes without a byte."""

    def __call__(self, connection: Connection) -> None:
        received = connection.read_head()
        connection.read_body(received)
        connection.send(OK)
        connection.read_head()
        connection.close()


def test_a_get_that_met_a_closing_connection_is_sent_again(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(ClosesOnReuse())
    path = blueprints.path(origin, retries=0)
    for _ in range(6):
        assert gateway.get(path).status == 200, "a stale connection is no attempt on the Service's account"


def test_a_post_that_met_a_closing_connection_is_not(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(ClosesOnReuse())
    path = blueprints.path(origin)
    statuses = []

    def has_met() -> bool:
        assert gateway.get(path).status == 200
        statuses.append(gateway.send(request("POST", path, body=b"once")).status)
        return statuses[-1] == 502

    # On a loaded machine the connection may have been idle for a second, and is used no more.
    until(has_met, "a POST to meet the connection")
    assert set(statuses[:-1]) <= {200}
    assert sum(received.method == "POST" for received in origin.requests) == len(statuses)


def test_connection_close_of_the_upstream_is_obeyed(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b"ok", "Connection: close"))  # it says close and leaves it to us
    path = blueprints.path(origin)
    with gateway.connect() as client:
        for _ in range(3):
            reply = client.send(request("GET", path)).read_reply()
            assert reply.header("Connection") == "keep-alive", "the upstream's close is not the client's"
    assert origin.connections == 3


def test_an_http_1_0_upstream_closes_by_default(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def old(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.wait_gone()

    origin = make_origin(old)
    path = blueprints.path(origin)
    assert [gateway.get(path).body for _ in range(3)] == [b"ok"] * 3
    assert origin.connections == 3


def test_pools_of_different_addresses_do_not_mix(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    first, second = make_origin(answer(b"first")), make_origin(answer(b"second"))
    paths = blueprints.path(first), blueprints.path(second)
    for _ in range(2):
        assert [gateway.get(path).body for path in paths] == [b"first", b"second"]
    assert (first.connections, second.connections) == (1, 1)


# === towards the client ===


def test_a_client_s_connection_serves_many_requests(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        for _ in range(7):
            reply = client.send(request("GET", echo_path)).read_reply()
            assert (reply.status, reply.header("Connection")) == (200, "keep-alive")


def test_a_client_s_connection_ends_after_its_number_of_requests(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        replies = [client.send(request("GET", echo_path)).read_reply() for _ in range(8)]
        assert client.is_closed()
    assert [reply.header("Connection") for reply in replies] == ["keep-alive"] * 7 + ["close"]


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(b"".join(request("GET", f"{echo_path}/{number}") for number in range(5)))
        replies = [client.read_reply() for _ in range(5)]
    assert [reply.text.split("\r\n")[0].split(" ")[-2] for reply in replies] == [f"/{number}" for number in range(5)]
    assert len(gateway.access_log.wait_for("kong_request_id", 5)) == 5


def test_pipelined_bodies_do_not_run_into_each_other(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(b"".join(request("POST", echo_path, body=b"x" * number) for number in (0, 1, 9000, 3)))
        for _ in range(4):
            assert client.read_reply().status == 200
    assert [len(received.body) for received in echo.requests] == [0, 1, 9000, 3]


def _closes(client: Client, data: bytes) -> bool:
    reply = client.send(data).read_reply()
    assert reply.status == 200
    return reply.header("Connection") == "close" and client.is_closed()


def test_a_client_that_says_close_is_closed(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        assert _closes(client, request("GET", echo_path, "Connection: close"))
    with gateway.connect() as client:
        assert _closes(client, request("GET", echo_path, "connection: Close, x-a"))


def test_http_1_0_closes_unless_it_asks_to_stay(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        assert _closes(client, request("GET", echo_path, version="1.0"))
    with gateway.connect() as client:
        for _ in range(2):
            reply = client.send(request("GET", echo_path, "Connection: keep-alive", version="1.0")).read_reply()
            assert (reply.status, reply.header("Connection")) == (200, "keep-alive")


def test_an_error_keeps_the_client_s_connection(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        assert client.send(request("GET", "/-/no-route")).read_reply().status == 404
        assert client.send(request("GET", echo_path)).read_reply().status == 200
