# SPDX-License-Identifier: Apache-2.0
"""What does a client get, and what is said of it, when the network to an upstream loses, refuses or forgets packets?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.netns import Network, is_allowed
from tests.support.origin import Behaviour, Connection, Origin, answer
from tests.support.raw import Client, Reply, request
from tests.support.wait import until

WORKERS = 1

TIMEOUT_MS = 300
# What a loaded machine may take beyond the timeouts. A request that hangs takes 60 s, the default of each of them.
SLACK_S = 5.0
LOST = "upstream timed out (110: Connection timed out)"

MakeOrigin = Callable[[Behaviour], Origin]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if not is_allowed():
        pytest.skip("this process may not make a network that loses packets")
    with Network() as made:
        yield made


@pytest.fixture
def far(network: Network) -> Iterator[Callable[[Behaviour], Origin]]:
    """Starts origins behind the network; its faults end with the test."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour) -> Origin:
            return stack.enter_context(Origin(behaviour, listener=network.listen()))

        yield start
        network.rules()


def with_timeouts(blueprints: Blueprints, origin: Origin | str, retries: int = 0, **fields: Any) -> str:
    """A path to the origin, all three timeouts short."""
    timeouts = dict.fromkeys(("connect_timeout", "write_timeout", "read_timeout"), TIMEOUT_MS)
    return blueprints.path(origin, retries=retries, **{**timeouts, **fields})


def taking(gateway: Gateway, data: bytes, least_s: float, attempts: int = 1) -> Reply:
    """A reply that comes when so much time has passed, and not when much more has."""
    began_s = time.monotonic()
    reply = gateway.send(data)
    took_s = time.monotonic() - began_s
    assert least_s * 0.95 <= took_s <= TIMEOUT_MS / 1000 * attempts * 2 + SLACK_S, f"it took {took_s:.1f} s"
    return reply


def record(gateway: Gateway, reply: Reply) -> dict[str, Any]:
    """What failures.jsonl says of a failed request."""

    def of_it() -> list[dict[str, Any]]:
        return [one for one in gateway.failures.records() if one["request_id"] == reply.request_id]

    (found,) = until(of_it, "a record of the failure")
    return found


# === no connection ===


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_packets_that_vanish_are_a_connect_timeout(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin, method: str
) -> None:
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin, retries=1)
    network.rules(f"tcp dport {origin.port} drop")
    reply = taking(gateway, request(method, path, body=b"" if method == "GET" else b"x"), 2 * TIMEOUT_MS / 1000, 2)
    assert reply.status == 504
    said = record(gateway, reply)
    assert said["fault"] == "connect_timeout"
    assert [attempt["fault"] for attempt in said["attempts"]] == ["connect_timeout"] * 2, (
        "nothing was sent: any method is tried again"
    )
    gateway.error_log.wait_for(f"{LOST} while connecting to upstream", 2)


@pytest.mark.parametrize(
    ("how", "fault", "phrase"),
    [
        ("tcp reset", "connect_refused", "connect() failed (111: Connection refused)"),
        ("icmp type port-unreachable", "connect_refused", "connect() failed (111: Connection refused)"),
        ("icmp type host-unreachable", "connect_failed", "connect() failed (113: No route to host)"),
        ("icmp type admin-prohibited", "connect_failed", "connect() failed (113: No route to host)"),
    ],
)
def test_a_connection_that_is_rejected_is_named(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin, how: str, fault: str, phrase: str
) -> None:
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin)
    network.rules(f"tcp dport {origin.port} reject with {how}")
    reply = taking(gateway, request("GET", path), 0.0)
    assert reply.status == 502
    assert record(gateway, reply)["fault"] == fault
    (line,) = gateway.error_log.wait_for(f"{phrase} while connecting to upstream")
    assert reply.request_id in line


def test_another_target_is_tried(gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin) -> None:
    lost, good = far(answer(b"lost")), far(answer(b"good"))
    upstream = blueprints.upstream(f"{network.address}:{lost.port}", f"{network.address}:{good.port}")
    path = with_timeouts(blueprints, f"http://{upstream['name']}/", retries=1)
    network.rules(f"tcp dport {lost.port} drop")
    assert [gateway.get(path).body for _ in range(4)] == [b"good"] * 4


# === a connection on which nothing passes ===


def test_a_connection_that_only_opens_is_a_read_timeout(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    """A firewall that lets the first packet pass and none after it."""
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin, retries=1)
    network.rules(f"tcp dport {origin.port} ct state established drop")
    reply = taking(gateway, request("GET", path), 2 * TIMEOUT_MS / 1000, 2)
    assert reply.status == 504
    said = record(gateway, reply)
    assert [attempt["fault"] for attempt in said["attempts"]] == ["read_timeout"] * 2
    assert not origin.requests
    gateway.error_log.wait_for(f"{LOST} while reading response header from upstream", 2)


def test_a_body_of_which_nothing_arrives_is_a_write_timeout(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin, retries=1)
    network.rules(f"tcp dport {origin.port} ct state established drop")
    reply = taking(gateway, request("POST", path, body=b"x" * (8 << 20)), TIMEOUT_MS / 1000)
    assert reply.status == 504
    said = record(gateway, reply)
    assert [attempt["fault"] for attempt in said["attempts"]] == ["write_timeout"], "a POST is not tried again"


def test_a_connection_that_is_reset_by_a_firewall_is_named(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    """It lets connections be made, and resets them at the first packet with data."""
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin, retries=1)
    network.rules(f"tcp dport {origin.port} tcp flags & psh == psh reject with tcp reset")
    reply = taking(gateway, request("GET", path), 0.0)
    assert reply.status == 502
    assert [attempt["fault"] for attempt in record(gateway, reply)["attempts"]] == ["reset"] * 2
    reply = taking(gateway, request("POST", path, body=b"once"), 0.0)
    assert reply.status == 502
    assert [attempt["fault"] for attempt in record(gateway, reply)["attempts"]] == ["reset"]
    assert not origin.requests


def test_an_answer_that_stops_half_way_ends_in_time(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    def answers_in_two(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfirs")
        network.rules(f"tcp dport {connection.origin.port} drop", outgoing=(f"tcp sport {connection.origin.port} drop",))
        connection.send(b"t, t")

    path = with_timeouts(blueprints, far(answers_in_two))
    began_s = time.monotonic()
    with gateway.connect() as client:
        reply = client.send(request("GET", path)).read_head()
        assert reply.status == 200
        assert client.is_closed(TIMEOUT_MS / 1000 + SLACK_S) or client.is_closed(TIMEOUT_MS / 1000 + SLACK_S)
    assert time.monotonic() - began_s < TIMEOUT_MS / 1000 + SLACK_S
    assert record(gateway, reply)["fault"] == "read_timeout_in_body"


# === pooled connections that a firewall has forgotten ===


class Pooled:
    """An origin with idle connections in the gateway's pool, which the network then forgets."""

    def __init__(
        self, gateway: Gateway, network: Network, far: MakeOrigin, blueprints: Blueprints, retries: int, **fields: Any
    ) -> None:
        self.network = network
        self.ports: list[int] = []
        self.origin = far(self._serve)
        self.path = with_timeouts(blueprints, self.origin, retries, **fields)
        assert gateway.get(self.path).status == 200
        assert self.origin.open_connections == 1

    def _serve(self, connection: Connection) -> None:
        self.ports.append(connection.socket.getpeername()[1])
        # A POST would else take none that lay idle for a second, as it may on a loaded machine.
        answer(b"far", "Keep-Alive: timeout=60")(connection)

    def forget(self, verdict: str) -> None:
        """What exists is treated so from now on; new connections pass."""
        ports = ", ".join(map(str, self.ports))
        self.network.rules(f"tcp sport {{ {ports} }} {verdict}")


def test_a_get_on_a_forgotten_connection_is_sent_again(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    pooled = Pooled(gateway, network, far, blueprints, retries=0)
    pooled.forget("drop")
    assert taking(gateway, request("GET", pooled.path), TIMEOUT_MS / 1000, 2).status == 200
    assert taking(gateway, request("GET", pooled.path), 0.0).status == 200, "the pool holds what works"
    assert len(pooled.ports) == 2


def test_a_forgotten_connection_is_found_out_long_before_the_read_timeout(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    """Nothing sent on it is acknowledged for two seconds; the Service would wait for a minute."""
    pooled = Pooled(gateway, network, far, blueprints, retries=0, read_timeout=60_000)
    pooled.forget("drop")
    began_s = time.monotonic()
    reply = gateway.get(pooled.path)
    assert reply.status == 200
    assert 1.9 <= time.monotonic() - began_s <= 2 + SLACK_S
    (line,) = gateway.error_log.wait_for("sent again on a fresh connection: the method may be repeated")
    assert "[warn]" in line
    assert reply.request_id in line


def test_a_post_on_a_forgotten_connection_is_not_sent_again(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    pooled = Pooled(gateway, network, far, blueprints, retries=3)
    pooled.forget("drop")
    reply = taking(gateway, request("POST", pooled.path, body=b"once"), TIMEOUT_MS / 1000)
    assert reply.status == 504
    said = record(gateway, reply)
    assert said["fault"] == "connection_dead"
    assert [attempt["reused"] for attempt in said["attempts"]] == [1]
    assert "not sent again" in said["attempts"][0]["again"]
    assert not [one for one in pooled.origin.requests if one.method == "POST"]


def test_a_get_on_a_connection_that_the_firewall_resets_is_sent_again(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    pooled = Pooled(gateway, network, far, blueprints, retries=0)
    pooled.forget("reject with tcp reset")
    assert taking(gateway, request("GET", pooled.path), 0.0).status == 200


def test_a_post_on_a_connection_that_the_firewall_resets_is_executed_at_most_once(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    pooled = Pooled(gateway, network, far, blueprints, retries=3)
    pooled.forget("reject with tcp reset")
    reply = taking(gateway, request("POST", pooled.path, body=b"once"), 0.0)
    executed = sum(one.method == "POST" for one in pooled.origin.requests)
    assert (reply.status, executed) in [(200, 1), (502, 0)]


def test_a_large_body_on_a_pooled_connection_through_a_slow_network_is_sent_once(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    """It takes longer than the two seconds after which a connection is looked at."""
    origin = far(answer(b"far", "Keep-Alive: timeout=60"))
    path = blueprints.path(origin, retries=0)
    assert gateway.get(path).status == 200
    body = b"x" * 1_500_000
    with network.throttled(4_000_000):
        began_s = time.monotonic()
        assert gateway.send(request("PUT", path, body=body)).status == 200
        assert time.monotonic() - began_s > 2.5
    assert [(one.method, one.connection) for one in origin.requests] == [("GET", 1), ("PUT", 1)]
    assert gateway.error_log.containing("sent again") == []


# === loss ===


@pytest.mark.timeout(90)
def test_all_are_answered_though_three_of_ten_packets_are_lost(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin
) -> None:
    """Lost packets are sent again by the kernel, lost connections by the gateway: six attempts of three seconds."""
    origin = far(answer(b"far"))
    path = with_timeouts(blueprints, origin, retries=5, connect_timeout=3000, write_timeout=3000, read_timeout=3000)
    network.rules(f"tcp dport {origin.port} numgen random mod 100 < 30 drop")

    def ask(_: int) -> list[int]:
        with Client(gateway.proxy_port, timeout_s=60) as client:
            return [client.send(request("GET", path)).read_reply().status for _ in range(3)]

    with ThreadPoolExecutor(20) as threads:
        statuses = [status for many in threads.map(ask, range(20)) for status in many]
    assert statuses == [200] * 60


# === health ===


def health(gateway: Gateway, upstream: dict[str, Any], origin: Origin) -> str:
    """What the Admin API says of a Target."""
    rows = gateway.admin.get(f"/upstreams/{upstream['id']}/health")["data"]
    (row,) = (row for row in rows if row["target"] == f"{origin.address}:{origin.port}")
    return str(row["health"])


@pytest.mark.parametrize(
    ("rule", "counted"),
    [("drop", "timeouts"), ("reject with tcp reset", "tcp_failures"), ("ct state established drop", "timeouts")],
    ids=["dropped", "rejected", "half-open"],
)
def test_requests_that_meet_a_fault_turn_the_target(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin, rule: str, counted: str
) -> None:
    lost, good = far(answer(b"lost")), far(answer(b"good"))
    checks = {"passive": {"unhealthy": {counted: 2}, "healthy": {"successes": 0}}}
    upstream = blueprints.upstream(*(f"{one.address}:{one.port}" for one in (lost, good)), healthchecks=checks)
    path = with_timeouts(blueprints, f"http://{upstream['name']}/", retries=1)
    network.rules(f"tcp dport {lost.port} {rule}")
    assert [gateway.get(path).body for _ in range(4)] == [b"good"] * 4
    until(lambda: health(gateway, upstream, lost) == "UNHEALTHY", "the Target to turn")
    assert health(gateway, upstream, good) == "HEALTHY"
    assert taking(gateway, request("GET", path), 0.0).body == b"good"
    said = gateway.error_log.wait_for("target.unhealthy")
    assert any(counted in line for line in said), said


@pytest.mark.parametrize("kind", ["tcp", "http"])
@pytest.mark.parametrize("rule", ["drop", "reject with tcp reset"])
def test_probes_turn_a_target_when_its_network_fails_and_when_it_is_mended(
    gateway: Gateway, blueprints: Blueprints, network: Network, far: MakeOrigin, kind: str, rule: str
) -> None:
    origin = far(answer(b"far"))
    active = {
        "type": kind,
        "timeout": 0.3,
        "healthy": {"interval": 0.2, "successes": 1},
        "unhealthy": {"interval": 0.2, "tcp_failures": 1, "timeouts": 1, "http_failures": 1},
    }
    upstream = blueprints.upstream(f"{origin.address}:{origin.port}", healthchecks={"active": active})
    path = blueprints.path(f"http://{upstream['name']}/")
    assert gateway.get(path).status == 200
    network.rules(f"tcp dport {origin.port} {rule}")
    until(lambda: health(gateway, upstream, origin) == "UNHEALTHY", "the Target to turn", 10)
    assert taking(gateway, request("GET", path), 0.0).status == 503
    network.rules()
    until(lambda: health(gateway, upstream, origin) == "HEALTHY", "the Target to be back", 10)
    until(lambda: gateway.get(path).status == 200, "it to be used")
