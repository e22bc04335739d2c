# SPDX-License-Identifier: Apache-2.0
"""Which timer bounds what, when an upstream takes or gives too slowly?"""

from __future__ import annotations

from collections.abc import Callable

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin
from tests.support.raw import request

MakeOrigin = Callable[[Behaviour], Origin]


def test_an_upstream_that_takes_nothing_is_504(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def takes_nothing(connection: Connection) -> None:
        connection.pause(10)

    path = blueprints.path(make_origin(takes_nothing), write_timeout=300, retries=0)
    reply = gateway.send(request("POST", path, body=b"x" * (32 << 20)), "POST")
    assert reply.status == 504
    gateway.error_log.wait_for("upstream timed out (110: Connection timed out) while sending request to upstream")


def test_the_read_timer_runs_between_two_reads_not_over_all(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def drips(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for letter in b"drops":
            connection.pause(0.2)
            connection.send(bytes([letter]))

    reply = gateway.get(blueprints.path(make_origin(drips), read_timeout=500))
    assert (reply.status, reply.body) == (200, b"drops")


def test_a_put_is_tried_again_after_a_timeout_a_post_is_not(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    def silent(connection: Connection) -> None:
        connection.read_head()
        connection.wait_gone()

    origin = make_origin(silent)
    path = blueprints.path(origin, read_timeout=100, retries=2)
    assert gateway.send(request("PUT", path, body=b"x")).status == 504
    assert origin.connections == 3
    origin.forget()
    assert gateway.send(request("POST", path, body=b"x")).status == 504
    assert origin.connections == 1
