# SPDX-License-Identifier: Apache-2.0
"""Does the Admin API show what the workers of a running gateway know of names?"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import processes
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer
from tests.support.wait import until

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TTL_S = 1
WORKERS = 2


@pytest.fixture(scope="module")
def gateway(names: NameServer) -> Iterator[Gateway]:
    settings: dict[str, str | int] = {
        "dns_resolver": f"127.0.0.1:{names.port}",
        "dns_valid_ttl": TTL_S,
        "dns_error_ttl": "0.1",
    }
    with Gateway(settings, workers=WORKERS) as started:
        yield started


@pytest.fixture
def blueprints(gateway: Gateway) -> Blueprints:
    return Blueprints(gateway)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(good) as started:
        yield started


def shown(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """What the Admin API tells of a name; None: nobody knows it."""
    answer = gateway.admin.call("GET", f"/dns/{name}")
    return answer.json if answer.status == 200 else None


def has_state(gateway: Gateway, name: str, *states: str) -> dict[str, Any] | None:
    """What is told of a name once it is in one of these states."""
    told = shown(gateway, name)
    return told if told is not None and told["state"] in states else None


def test_an_answer_is_shown_then_stale_then_new(
    gateway: Gateway, blueprints: Blueprints, origin: Origin, names: NameServer
) -> None:
    names.addresses["live.test"] = ["127.0.0.1"]
    path = blueprints.path(f"http://live.test:{origin.port}/")

    def is_known_to_all() -> dict[str, Any] | None:
        assert gateway.get(path).status == 200
        found = shown(gateway, "live.test")
        return found if found is not None and len(found["workers"]) == WORKERS else None

    told = until(is_known_to_all, "every worker to report the name", 10)
    assert (told["kind"], told["server"], told["ttl_s"]) == ("A", f"127.0.0.1:{names.port}", TTL_S)
    assert [record["address"] for record in told["records"]] == ["127.0.0.1"]
    assert told["took_ms"] >= 0
    pids = {worker["pid"] for worker in gateway.admin.get("/status")["pylae"]["workers"]}
    assert {worker["pid"] for worker in told["workers"]} == pids
    names.failing.add("live.test")

    def is_stale() -> dict[str, Any] | None:
        # Whoever asks is answered all the while.
        assert gateway.get(path).status == 200
        found = has_state(gateway, "live.test", "stale")
        return found if found is not None and found["error"] else None

    told = until(is_stale, "the answer to be stale, and the failure to be shown", 10)
    assert told["is_stale"]
    assert told["stale_for_s"] > 0
    assert told["age_s"] >= TTL_S
    assert "server failure" in told["error"]
    assert [record["address"] for record in told["records"]] == ["127.0.0.1"]
    names.failing.discard("live.test")

    def is_fresh() -> dict[str, Any] | None:
        assert gateway.get(path).status == 200
        return has_state(gateway, "live.test", "fresh")

    told = until(is_fresh, "the answer to be new", 10)
    assert (told["is_stale"], told["stale_for_s"], told["error"]) == (False, 0, None)
    assert gateway.admin.get("/dns?name=live.*")["data"][0]["name"] == "live.test"


def test_a_name_that_is_none_is_shown_with_what_was_said(gateway: Gateway, blueprints: Blueprints) -> None:
    assert gateway.get(blueprints.path("http://nobody.test/")).status == 503
    told = until(lambda: has_state(gateway, "nobody.test", "failed"), "the failure to be reported")
    assert (told["kind"], told["records"]) == ("none", [])
    assert "name error" in told["error"]
    assert told["tried"]


def test_the_health_of_a_target_shows_the_addresses_that_workers_use(
    gateway: Gateway, blueprints: Blueprints, origin: Origin, names: NameServer
) -> None:
    # Nobody but our name server knows it: what control resolves itself would be nothing.
    names.addresses["target.test"] = ["127.0.0.1", "127.0.0.2"]
    upstream = blueprints.upstream(f"target.test:{origin.port}")
    assert gateway.get(blueprints.path(f"http://{upstream['name']}/")).status in (200, 502)

    def is_known() -> dict[str, Any] | None:
        (row,) = gateway.admin.get(f"/upstreams/{upstream['name']}/health")["data"]
        return row["data"] if row["data"]["addresses"] else None

    data = until(is_known, "the addresses to be known", 10)
    assert [one["ip"] for one in data["addresses"]] == ["127.0.0.1", "127.0.0.2"]
    assert {one["port"] for one in data["addresses"]} == {origin.port}
    assert (data["dns"], data["pylae"]["known_by"]) == ("A", "workers")
    assert data["pylae"]["age_s"] >= 0


def data_of(gateway: Gateway, upstream: str, dns: str) -> dict[str, Any] | None:
    """The health of the only Target of an Upstream, once its addresses are of this kind."""
    (row,) = gateway.admin.get(f"/upstreams/{upstream}/health")["data"]
    data: dict[str, Any] = row["data"]
    return data if data["dns"] == dns else None


def test_srv_records_are_shown_with_port_and_weight(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    names.set_a("one.srv.test", "127.0.0.1")
    names.set_a("two.srv.test", "127.0.0.2")
    services = [(1, 3, 8001, "one.srv.test"), (1, 1, 8002, "two.srv.test"), (2, 9, 8003, "one.srv.test")]
    names.set_srv("srv.test", *services)
    upstream = blueprints.upstream("srv.test:80")["name"]
    # Nobody has sent a request: workers ask ahead.
    data = until(lambda: data_of(gateway, upstream, "SRV"), "the services to be known", 10)
    assert [(one["ip"], one["port"]) for one in data["addresses"]] == [("127.0.0.1", 8001), ("127.0.0.2", 8002)]
    first, second = (one["weight"] for one in data["addresses"])
    assert first == 3 * second
    assert data["weight"]["total"] == first + second
    told = shown(gateway, "srv.test")
    assert told is not None
    assert {record["name"] for record in told["records"]} == {"one.srv.test", "two.srv.test"}


def test_what_is_shown_keeps_to_its_description(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    import jsonschema_rs

    names.set_a("a.kept.test", "127.0.0.1", "127.0.0.2")
    names.set_srv("srv.kept.test", (1, 1, 8001, "a.kept.test"))
    port = free_port()
    targets = [f"{host}:{port}" for host in ("a.kept.test", "srv.kept.test", "none.kept.test", "localhost", "127.0.0.1")]
    checks = {"active": {"healthy": {"interval": 0.1}, "unhealthy": {"interval": 0.1, "tcp_failures": 1}}}
    upstream = blueprints.upstream(*targets, healthchecks=checks)["name"]
    health = f"/upstreams/{upstream}/health"

    def is_probed() -> bool:
        rows = gateway.admin.get(health)["data"]
        return {row["health"] for row in rows} == {"UNHEALTHY", "DNS_ERROR"}

    until(is_probed, "each Target to be looked at", 10)
    document = gateway.admin.get("/openapi.json")
    for path, target in (
        ("/dns", "/dns"),
        ("/dns/{name}", "/dns/srv.kept.test"),
        ("/upstreams/{upstreams}/health", health),
        ("/upstreams/{upstreams}/health", f"{health}?balancer_health=1"),
    ):
        described = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        judge = jsonschema_rs.validator_for({**described, "components": document["components"], "$schema": DIALECT})
        judge.validate(gateway.admin.get(target))


def test_a_worker_that_is_replaced_takes_what_it_knew_with_it(
    gateway: Gateway, blueprints: Blueprints, origin: Origin, names: NameServer
) -> None:
    names.addresses["replaced.test"] = ["127.0.0.1"]
    path = blueprints.path(f"http://replaced.test:{origin.port}/")
    assert gateway.get(path).status == 200
    until(lambda: shown(gateway, "replaced.test"), "the name to be reported")
    pids = gateway.worker_pids()
    for pid in pids:
        processes.send(pid, signal.SIGKILL)
    until(lambda: shown(gateway, "replaced.test") is None, "what they said to be gone", 20)
    gateway.wait_ready()
    assert gateway.get(path).status == 200
    told = until(lambda: shown(gateway, "replaced.test"), "the name to be reported again")
    assert not {worker["pid"] for worker in told["workers"]} & set(pids)
