# SPDX-License-Identifier: Apache-2.0
"""Which addresses stand for a Target that has a name, and what do they take of the requests?"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer
from tests.support.wait import holds_for, until

FIRST, SECOND = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def gateway(names: NameServer) -> Iterator[Gateway]:
    # One worker: whose turn it is is a worker's own count.
    settings = {"dns_resolver": names.address, "dns_not_found_ttl": "0.3", "dns_error_ttl": "0.3", "dns_stale_ttl": "0.1"}
    with Gateway(settings) as started:
        yield started


@pytest.fixture
def pair() -> Iterator[tuple[Origin, Origin]]:
    """Two origins with one port, `first` at 127.0.0.1 and `second` at 127.0.0.2."""
    first = Origin(answer(b"first"))
    second = Origin(answer(b"second"), listener=socket.create_server((SECOND, first.port)))
    yield first, second
    first.stop()
    second.stop()


def host_of(names: NameServer, *addresses: str, ttl_s: int = 60) -> str:
    """A name with these addresses."""
    name = unique("host") + ".test"
    names.set_a(name, *addresses, ttl_s=ttl_s)
    return name


def targets(blueprints: Blueprints, weights: dict[str, int], **fields: object) -> Entity:
    """An Upstream with these Targets."""
    upstream = blueprints.upstream(**fields)
    for target, weight in weights.items():
        blueprints.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": target, "weight": weight})
    return upstream


def shares(gateway: Gateway, path: str, count: int) -> Counter[str]:
    """How many of so many requests each answer came for."""
    replies = [gateway.get(path) for _ in range(count)]
    return Counter(reply.text if reply.status == 200 else str(reply.status) for reply in replies)


def test_each_address_of_a_name_has_the_weight_of_the_target(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    with Origin(answer(b"third")) as third:
        name = host_of(names, FIRST, SECOND)
        upstream = targets(blueprints, {f"{name}:{pair[0].port}": 30, f"{FIRST}:{third.port}": 20})
        path = blueprints.path(f"http://{upstream['name']}/")
        until(lambda: shares(gateway, path, 8) == {"first": 3, "second": 3, "third": 2}, "shares by weight")


def test_srv_records_have_weight_and_port_of_their_own(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    name, other = host_of(names), host_of(names, FIRST)
    names.set_srv(name, (1, 10, pair[0].port, other), (1, 30, pair[1].port, host_of(names, SECOND)), (2, 9, 1, other))
    path = blueprints.path(f"http://{targets(blueprints, {f'{name}:1': 1000})['name']}/")
    until(lambda: shares(gateway, path, 8) == {"first": 2, "second": 6}, "shares by the records' weights")


def test_names_are_known_before_a_request_needs_them(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    name = host_of(names, FIRST)
    targets(blueprints, {f"{name}:80": 1})
    gateway.settle()
    until(lambda: names.count(name, "A") >= 1, "the name to be asked for, without a request")


def test_an_address_that_goes_gets_no_more_and_one_that_comes_its_share(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    name = host_of(names, FIRST, ttl_s=1)
    path = blueprints.path(f"http://{targets(blueprints, {f'{name}:{pair[0].port}': 1})['name']}/")
    assert shares(gateway, path, 4) == {"first": 4}
    names.set_a(name, FIRST, SECOND, ttl_s=1)
    until(lambda: shares(gateway, path, 4) == {"first": 2, "second": 2}, "both")
    names.set_a(name, SECOND, ttl_s=1)
    until(lambda: shares(gateway, path, 4) == {"second": 4}, "the second alone")


def test_a_name_with_ttl_0_is_asked_for_at_each_request_and_has_the_weight_of_the_target(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    with Origin(answer(b"third")) as third:
        name = host_of(names, FIRST, SECOND, ttl_s=0)
        upstream = targets(blueprints, {f"{name}:{pair[0].port}": 30, f"{FIRST}:{third.port}": 30})
        path = blueprints.path(f"http://{upstream['name']}/")
        until(lambda: shares(gateway, path, 8)["third"] == 4, "half of them for the name")
        asked = names.count(name, "A")
        found = shares(gateway, path, 20)
        assert found["third"] == 10
        assert found["first"] + found["second"] == 10
        assert names.count(name, "A") >= asked + 10


def test_a_failed_look_up_leaves_the_target_out_and_it_comes_back_by_itself(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    name = unique("late") + ".test"
    upstream = targets(blueprints, {f"{name}:{pair[0].port}": 10, f"{SECOND}:{pair[0].port}": 10})
    path = blueprints.path(f"http://{upstream['name']}/")
    holds_for(lambda: shares(gateway, path, 2) == {"second": 2}, "the name to get nothing", 0.5)
    names.set_a(name, FIRST)
    until(lambda: shares(gateway, path, 4) == {"first": 2, "second": 2}, "the name to be back")


def test_when_no_name_has_an_address_the_answer_is_503(gateway: Gateway, blueprints: Blueprints) -> None:
    nowhere = [f"{unique('nowhere')}.test:80" for _ in range(2)]
    alone = blueprints.path(f"http://{targets(blueprints, {nowhere[0]: 1})['name']}/")
    reply = gateway.get(alone)
    assert reply.status == 503
    assert "name resolution failed" in reply.text
    both = blueprints.path(f"http://{targets(blueprints, dict.fromkeys(nowhere, 1))['name']}/")
    reply = gateway.get(both)
    assert reply.status == 503
    assert "failure to get a peer from the ring-balancer" in reply.text


@pytest.mark.parametrize("ttl_s", [60, 0])
@pytest.mark.parametrize("algorithm", ["round-robin", "least-connections", "latency", "consistent-hashing"])
def test_a_retry_goes_to_another_address_of_the_name(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin], algorithm: str, ttl_s: int
) -> None:
    pair[0].stop()
    name = host_of(names, FIRST, SECOND, ttl_s=ttl_s)
    upstream = targets(blueprints, {f"{name}:{pair[1].port}": 10}, algorithm=algorithm)
    path = blueprints.path(f"http://{upstream['name']}/", retries=1)
    assert shares(gateway, path, 8) == {"second": 8}


def test_health_is_of_an_address_and_not_of_the_name(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    pair[0].behaviour = answer(b"bad", status="500 Internal Server Error", keep_alive=False)
    name = host_of(names, FIRST, SECOND)
    checks = {"passive": {"unhealthy": {"http_failures": 1}}}
    upstream = targets(blueprints, {f"{name}:{pair[0].port}": 10}, healthchecks=checks)
    path = blueprints.path(f"http://{upstream['name']}/")
    until(lambda: shares(gateway, path, 4) == {"second": 4}, "the first address to be out")
    assert len(pair[0].requests) == 1


# === use_srv_name ===


def srv_host(names: NameServer, origin: Origin) -> tuple[str, str]:
    """A name whose SRV record names a host, and that host."""
    host, name = host_of(names, FIRST), host_of(names)
    names.set_srv(name, (1, 1, origin.port, host))
    return name, host


def test_use_srv_name_names_the_host(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    name, host = srv_host(names, echo)
    upstream = targets(blueprints, {f"{name}:1": 1}, use_srv_name=True)
    assert gateway.get(blueprints.path(f"http://{upstream['name']}/")).status == 200
    assert echo.last.header("Host") == f"{host}:{echo.port}"
    without = targets(blueprints, {f"{name}:1": 1})
    assert gateway.get(blueprints.path(f"http://{without['name']}/")).status == 200
    assert echo.last.header("Host") == f"{name}:{echo.port}"


def test_host_header_and_preserve_host_go_before_use_srv_name(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    name, _ = srv_host(names, echo)
    upstream = targets(blueprints, {f"{name}:1": 1}, use_srv_name=True, host_header="shop.test")
    assert gateway.get(blueprints.path(f"http://{upstream['name']}/")).status == 200
    assert echo.last.header("Host") == "shop.test"
    preserving = blueprints.path(f"http://{upstream['name']}/", {"preserve_host": True, "hosts": ["asked.test"], "paths": ["/p"]})
    assert gateway.get(preserving, host="asked.test").status == 200
    assert echo.last.header("Host") == "asked.test"


def test_use_srv_name_is_the_name_in_the_handshake_and_of_probes(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, tmp_path: Path
) -> None:
    asked: list[str | None] = []
    context = self_signed(tmp_path, "origin.test").server_context()

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = note
    with Origin(answer(b"hello"), tls=context) as origin:
        name, host = srv_host(names, origin)
        upstream = targets(blueprints, {f"{name}:1": 1}, use_srv_name=True)
        assert gateway.get(blueprints.path(f"https://{upstream['name']}/", tls_verify=False)).status == 200
        assert asked == [host]
        asked.clear()
        origin.forget()
        active = {"type": "https", "https_verify_certificate": False, "healthy": {"interval": 0.2, "successes": 1}}
        targets(blueprints, {f"{name}:1": 1}, use_srv_name=True, healthchecks={"active": active})
        gateway.settle()
        origin.wait_requests(1)
        assert set(asked) == {host}
        assert origin.last.header("Host") == host


# === the plugin resilience ===


def with_an_outlier(
    gateway: Gateway, blueprints: Blueprints, pair: tuple[Origin, Origin], ejection_time_s: int
) -> tuple[Entity, str]:
    """An Upstream of a bad and a good Target, where the bad is left out for so long; and a path to it."""
    pair[0].behaviour = answer(b"bad", status="503 Service Unavailable", keep_alive=False)
    upstream = targets(blueprints, {f"{FIRST}:{pair[0].port}": 1, f"{SECOND}:{pair[0].port}": 1})
    service = blueprints.service(f"http://{upstream['name']}/")
    path: str = blueprints.route(service)["paths"][0]
    outlier = {"success_rate_percent": 80, "least_requests": 5, "interval_s": 1, "ejection_time_s": ejection_time_s}
    blueprints.plugin("resilience", service, "service", outlier_ejection=outlier)
    gateway.settle()
    return upstream, path


def test_an_outlier_is_left_out_and_shown(gateway: Gateway, blueprints: Blueprints, pair: tuple[Origin, Origin]) -> None:
    upstream, path = with_an_outlier(gateway, blueprints, pair, 300)
    until(lambda: shares(gateway, path, 6) == {"second": 6}, "the outlier to be out", 10)
    rows = gateway.admin.get(f"/upstreams/{upstream['id']}/health")["data"]
    places = {row["data"]["host"]: row["data"]["addresses"][0] for row in rows}
    assert places[FIRST]["health"] == "UNHEALTHY"
    about = places[FIRST]["pylae"]
    assert about["state"] == "ejected"
    assert about["why"].startswith("ejected: success rate 0 % of ")
    assert about["until_ms"] >= about["since_ms"] + 299_000
    assert places[SECOND]["health"] == "HEALTHCHECKS_OFF"
    gateway.error_log.wait_for("target.ejected")


def test_an_outlier_comes_back_by_itself(gateway: Gateway, blueprints: Blueprints, pair: tuple[Origin, Origin]) -> None:
    _, path = with_an_outlier(gateway, blueprints, pair, 2)
    until(lambda: shares(gateway, path, 6) == {"second": 6}, "the outlier to be out", 20)
    pair[0].behaviour = answer(b"first")
    until(lambda: shares(gateway, path, 6) == {"first": 3, "second": 3}, "it to be back", 10)


def test_a_target_that_comes_new_starts_slowly(gateway: Gateway, blueprints: Blueprints, pair: tuple[Origin, Origin]) -> None:
    upstream = targets(blueprints, {f"{FIRST}:{pair[0].port}": 1})
    service = blueprints.service(f"http://{upstream['name']}/")
    path = blueprints.route(service)["paths"][0]
    blueprints.plugin("resilience", service, "service", slow_start={"window_s": 600, "least_percent": 10})
    gateway.settle()
    assert shares(gateway, path, 4) == {"first": 4}
    blueprints.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": f"{SECOND}:{pair[0].port}", "weight": 1})
    gateway.settle()
    found = shares(gateway, path, 44)
    assert 3 <= found["second"] <= 6, found


def test_a_dead_name_does_not_hold_up_the_others(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: tuple[Origin, Origin]
) -> None:
    silent, name = f"{unique('silent')}.test", host_of(names, FIRST)
    names.silent.add(silent)
    upstream = targets(blueprints, {f"{silent}:{free_port()}": 1, f"{name}:{pair[0].port}": 1})
    path = blueprints.path(f"http://{upstream['name']}/")
    assert shares(gateway, path, 4) == {"first": 4}
