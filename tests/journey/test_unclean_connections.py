# SPDX-License-Identifier: Apache-2.0
"""Does a connection with something unread or unsent on it ever reach another request (response splitting, desynchronisation)?"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin
from tests.support.raw import request

MakeOrigin = Callable[[Behaviour], Origin]

SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"


def test_an_answer_abandoned_by_a_header_filter_is_not_read_by_the_next_request(make_origin: MakeOrigin) -> None:
    with Gateway({"plugins": "bundled,probe"}) as gateway:
        _abandon(gateway, Blueprints(gateway), make_origin)


def _abandon(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    go_on = threading.Event()

    def late_body(connection: Connection) -> None:
        connection.read_head()
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n".encode())
        go_on.wait(5)
        connection.send(SMUGGLED)
        connection.wait_gone()

    origin = make_origin(late_body)
    route = blueprints.route(blueprints.service(origin))
    path = route["paths"][0]
    plugin = blueprints.plugin("probe", on=route, kind="route", phase="header_filter", does="raise")
    gateway.settle()
    with gateway.connect() as client:
        assert client.send(request("GET", path)).read_reply().status == 500
    go_on.set()
    gateway.admin.delete(f"/plugins/{plugin['id']}")
    gateway.settle()
    with gateway.connect() as client:
        reply = client.send(request("GET", path)).read_reply()
    assert reply.body == SMUGGLED, "the second request reads the answer to the second request"
    assert origin.connections == 2, "the first connection was used again"


def test_a_refusal_is_read_while_a_large_body_is_still_being_sent(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def refuses(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.wait_gone()

    origin = make_origin(refuses)
    path = blueprints.path(origin, write_timeout=20_000)
    with gateway.connect() as client:
        reply = client.send(request("PUT", path, body=b"x" * 20_000_000)).read_reply()
    assert reply.status == 413
    assert origin.connections == 1, "an answer was asked for again"


def test_a_connection_that_is_owed_body_bytes_is_not_used_again(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def refuses(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        connection.wait_gone()

    origin = make_origin(refuses)
    path = blueprints.path(origin, route={"request_buffering": False})
    with gateway.connect() as client:
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n0123456789".encode()
        assert client.send(head).read_reply().status == 401
    with gateway.connect() as client:
        assert client.send(request("GET", path)).read_reply().status == 401
    assert origin.connections == 2, "the next request would have been taken for the missing 990 bytes"


def test_a_keep_alive_that_the_framing_forbids_is_not_promised(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def until_close(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    path = blueprints.path(make_origin(until_close))
    with gateway.connect() as client:
        client.send(f"GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
        reply = client.read_reply()
        assert reply.header("Connection") == "close"
        assert reply.body == b"all of it"
