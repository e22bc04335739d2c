# SPDX-License-Identifier: Apache-2.0
"""Do requests keep away from a Target that an operator marked, on every worker, until it is taken back?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, Entity
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Origin, answer
from tests.support.wait import holds_for, until

SETTINGS = {"log_level": "notice"}
WORKERS = 2

MakeOrigin = Callable[[Behaviour], Origin]
CHECKED = {"healthchecks": {"passive": {"unhealthy": {"http_failures": 1}}}}
RING_IS_EMPTY = "failure to get a peer from the ring-balancer"


class Pair:
    """An Upstream with two Targets, and a path that leads to it."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
        self.gateway = gateway
        self.places = [f"127.0.0.1:{make_origin(answer(body)).port}" for body in (b"first", b"second")]
        self.upstream: Entity = blueprints.upstream(*self.places, **CHECKED)
        self.path = blueprints.path(f"http://{self.upstream['name']}")

    def mark(self, at: int, word: str, address: str = "") -> None:
        path = f"/upstreams/{self.upstream['name']}/targets/{self.places[at]}{address}/{word}"
        assert self.gateway.admin.call("PUT", path).status == 204

    def answers(self) -> set[bytes]:
        """Of enough connections to reach every worker and both turns of each."""
        replies = [self.gateway.get(self.path) for _ in range(24)]
        return {reply.body if reply.status == 200 else str(reply.status).encode() for reply in replies}


@pytest.fixture
def pair(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> Pair:
    return Pair(gateway, blueprints, make_origin)


def test_a_marked_target_gets_nothing_until_it_is_back(pair: Pair) -> None:
    until(lambda: pair.answers() == {b"first", b"second"}, "both Targets")
    pair.mark(0, "unhealthy")
    until(lambda: pair.answers() == {b"second"}, "the second Target alone")
    pair.mark(1, "unhealthy", f"/{pair.places[1]}")
    until(lambda: pair.answers() == {b"503"}, "no Target")
    assert RING_IS_EMPTY in pair.gateway.get(pair.path).body.decode()
    pair.mark(1, "healthy")
    until(lambda: pair.answers() == {b"second"}, "the second Target alone")
    pair.mark(0, "healthy")
    until(lambda: pair.answers() == {b"first", b"second"}, "both Targets")


def test_a_mark_outlives_control_and_other_changes(pair: Pair, blueprints: Blueprints) -> None:
    pair.mark(0, "unhealthy")
    until(lambda: pair.answers() == {b"second"}, "the second Target alone")
    blueprints.route(None)
    pair.gateway.settle()
    assert pair.answers() == {b"second"}
    killed = pair.gateway.control_pid()
    os.kill(killed, signal.SIGKILL)
    pair.gateway.wait_ready()
    assert pair.gateway.control_pid() != killed
    holds_for(lambda: pair.answers() == {b"second"}, "the mark to hold", 0.3)


def test_a_mark_brings_back_a_target_that_requests_took_out(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    bad = answer(b"bad", status="500 Internal Server Error", keep_alive=False)
    origin, other = make_origin(bad), make_origin(answer(b"second"))
    place = f"127.0.0.1:{origin.port}"
    upstream = blueprints.upstream(place, f"127.0.0.1:{other.port}", **CHECKED)
    path = blueprints.path(f"http://{upstream['name']}")

    def address() -> dict[str, Any]:
        rows = gateway.admin.get(f"/upstreams/{upstream['id']}/health")["data"]
        (found,) = [row["data"]["addresses"][0] for row in rows if row["target"] == place]
        return dict(found)

    until(lambda: gateway.get(path).status == 500, "the turn of the first Target")
    assert address()["health"] == "UNHEALTHY"
    assert address()["pylae"]["why"] == "passive: http_failures"
    assert address()["pylae"]["evidence"].endswith("status 500")
    origin.behaviour = answer(b"first")
    holds_for(lambda: gateway.get(path).body == b"second", "it to stay out", 0.2)
    assert gateway.admin.call("PUT", f"/upstreams/{upstream['id']}/targets/{place}/healthy").status == 204
    until(lambda: gateway.get(path).body == b"first", "the first Target to be back")
    assert address()["health"] == "HEALTHY"
    assert address()["pylae"]["why"] == "marked by an operator"


def test_a_probe_brings_back_a_target_that_was_marked(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b"alive"))
    checks = {"active": {"unhealthy": {"interval": 0.2}, "healthy": {"successes": 1}}}
    upstream = blueprints.upstream(f"127.0.0.1:{origin.port}", healthchecks=checks)
    gateway.settle()
    assert gateway.admin.call("PUT", f"/upstreams/{upstream['id']}/targets/127.0.0.1:{origin.port}/unhealthy").status == 204

    def why() -> str:
        (row,) = gateway.admin.get(f"/upstreams/{upstream['id']}/health")["data"]
        return f"{row['health']} {row['data']['addresses'][0]['pylae']['why']}"

    until(lambda: why() == "HEALTHY active: successes", "a probe to find it alive")


def test_the_log_level_changes_in_every_worker(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = blueprints.path(make_origin(answer(b"ok")))
    gateway.get(path)
    assert "[debug]" not in gateway.error_log.tail()
    assert gateway.admin.call("PUT", "/debug/node/log-level/debug?timeout=0").status == 200

    def all_talk() -> bool:
        gateway.get(path)
        lines = gateway.error_log.path.read_text()
        return all(f"[debug] {pid}#" in lines for pid in gateway.worker_pids())

    until(all_talk, "lines at debug of every worker")
    assert gateway.admin.call("PUT", "/debug/node/log-level/notice").status == 200
