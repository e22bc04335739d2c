# SPDX-License-Identifier: Apache-2.0
"""Does a request keep its meaning through nginx, the gateway and HAProxy, and does an error name its place?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good
from tests.support.ports import free_port
from tests.support.raw import Client, get, request
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.nginx import Nginx
from tests.support.transcripts import IDENTITY

SETTINGS = {"trusted_ips": "127.0.0.1", "real_ip_header": "X-Forwarded-For", "real_ip_recursive": "on"}


@dataclass
class Row:
    """client → nginx → gateway → HAProxy → origin."""

    nginx_port: int
    gateway: Gateway
    haproxy: Haproxy
    origin: Origin
    path: str


@pytest.fixture(scope="module")
def row(gateway: Gateway, blueprints: Blueprints) -> Iterator[Row]:
    nginx_port, haproxy_port = free_port(), free_port()
    with (
        Origin(good) as origin,
        Haproxy(haproxy_port, origin.port) as haproxy,
        Nginx.load_balancer(nginx_port, gateway.proxy_port),
    ):
        path = blueprints.path(f"http://127.0.0.1:{haproxy_port}/")
        yield Row(nginx_port, gateway, haproxy, origin, path)


def test_the_origin_learns_who_asked_and_for_what(row: Row) -> None:
    reply = get(row.nginx_port, row.path + "/a?b=c", host="shop.test")
    assert reply.status == 200
    sent = row.origin.last
    assert sent.request_line == "GET /a?b=c HTTP/1.1"
    assert ", ".join(sent.all("X-Forwarded-For")).startswith("127.0.0.1, 127.0.0.1")
    assert sent.header("X-Forwarded-Host") == "shop.test"
    assert sent.header("X-Forwarded-Port") == str(row.nginx_port)
    assert sent.header("X-Forwarded-Path") == row.path + "/a"
    assert sent.header("X-Seen-By") == "haproxy"
    assert reply.header("Via") == f"1.1 {IDENTITY}"


def test_many_requests_share_few_connections(row: Row) -> None:
    row.origin.forget()
    with Client(row.nginx_port) as client:
        for number in range(50):
            assert client.send(request("GET", f"{row.path}/{number}")).read_reply().status == 200
    assert [received.target for received in row.origin.requests] == [f"/{number}" for number in range(50)]
    assert row.origin.connections <= 2


def test_a_large_body_passes_both_ways(row: Row) -> None:
    body = b"0123456789abcdef" * 65536
    with Client(row.nginx_port) as client:
        reply = client.send(request("POST", row.path, body=body)).read_reply()
    assert reply.status == 200
    assert row.origin.last.body == body
    assert reply.body.endswith(body)


def test_a_head_and_a_204_do_not_shift_the_answers(row: Row) -> None:
    with Client(row.nginx_port) as client:
        for _ in range(3):
            assert client.send(request("HEAD", row.path)).read_reply("HEAD").status == 200
            assert client.send(request("GET", row.path)).read_reply().body.startswith(b"you sent:")


def test_the_second_load_balancer_s_503_passes_as_its_own(row: Row) -> None:
    """HAProxy answers for the origin that is gone: the gateway hands its words on and does not call them a fault."""
    dead_port = free_port()
    with Haproxy(dead_port, free_port()):
        path = Blueprints(row.gateway).path(f"http://127.0.0.1:{dead_port}/")
        row.gateway.error_log.mark()
        reply = get(row.nginx_port, path)
    assert reply.status == 503
    assert b"No server is available" in reply.body
    assert not row.gateway.error_log.grave_lines()


def test_the_second_load_balancer_gone_is_named_by_the_gateway(row: Row) -> None:
    port = free_port()
    path = Blueprints(row.gateway).path(f"http://127.0.0.1:{port}/")
    row.gateway.error_log.mark()
    reply = get(row.nginx_port, path)
    assert reply.status == 502
    lines = row.gateway.error_log.wait_for("connect() failed (111: Connection refused) while connecting to upstream", 6)
    assert all(f'upstream: "http://127.0.0.1:{port}/"' in line for line in lines)
    assert all(reply.request_id in line for line in lines)


def test_a_restart_of_the_second_load_balancer_costs_no_get(row: Row) -> None:
    """Its connections close while they lie idle in our pool: the next request opens another."""
    assert get(row.nginx_port, row.path).status == 200
    row.haproxy.restart()
    assert [get(row.nginx_port, row.path).status for _ in range(10)] == [200] * 10
