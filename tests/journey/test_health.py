# SPDX-License-Identifier: Apache-2.0
"""Which Targets are left out, because requests failed or because probes did, and when are they back?"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae import _core
from tests.support import processes
from tests.support.blueprints import Blueprints, Entity
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.load import Load
from tests.support.origin import Behaviour, Connection, Origin, answer
from tests.support.origin import good as good_forever
from tests.support.ports import free_port
from tests.support.wait import holds_for, until

WORKERS = 2

MakeOrigin = Callable[[Behaviour], Origin]

BAD = answer(b"bad", status="500 Internal Server Error", keep_alive=False)
GOOD = answer(b"good")


@pytest.fixture(scope="module")
def shared(gateway: Gateway) -> Iterator[_core.Shared]:
    """The gateway's shared segment, as control sees it."""
    for link in Path(f"/proc/{gateway.supervisor_pid}/fd").iterdir():
        if "memfd:pylae" in str(link.readlink()):
            descriptor = os.open(link, os.O_RDWR)
            yield _core.Shared(descriptor)
            os.close(descriptor)
            return
    pytest.fail("the supervisor holds no shared segment")


def passive(**unhealthy: Any) -> dict[str, Any]:
    """Health checks by what requests meet."""
    successes = unhealthy.pop("successes", 0)
    return {"passive": {"unhealthy": unhealthy, "healthy": {"successes": successes}}}


def active(healthy: dict[str, Any] | None = None, unhealthy: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Health checks by probes, five a second."""
    failures = {"tcp_failures": 1, "timeouts": 1, "http_failures": 1}
    return {
        "active": {
            "healthy": {"interval": 0.2, "successes": 1, **(healthy or {})},
            "unhealthy": {"interval": 0.2, **failures, **(unhealthy or {})},
            **fields,
        }
    }


def at(origin: Origin) -> str:
    """A Target."""
    return f"127.0.0.1:{origin.port}"


def statuses(gateway: Gateway, path: str, count: int = 12) -> list[int]:
    """So many requests, each on a connection of its own."""
    return [gateway.get(path).status for _ in range(count)]


def rows(shared: _core.Shared, upstream: Entity) -> dict[int, dict[str, Any]]:
    """What is known of an Upstream's Targets, by port."""
    return {row["port"]: row for row in shared.health() if row["upstream"] == upstream["id"]}


# === passive ===


def test_passive_http_failures_take_a_target_out_in_every_worker(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    bad, good = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(bad), at(good), healthchecks=passive(http_failures=2))
    path = blueprints.path(f"http://{upstream['name']}/")
    assert sorted(statuses(gateway, path, 20))[-2:] == [500, 500]
    assert len(bad.requests) == 2, "and no more, whichever worker met it"
    row = rows(shared, upstream)[bad.port]
    assert row["state"] == "unhealthy"
    assert row["why"] == "passive: http_failures"
    assert row["evidence"].endswith("status 500")
    gateway.error_log.wait_for("target.unhealthy")


def test_passive_tcp_failures_count_connect_errors(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    dead, good = free_port(), make_origin(GOOD)
    upstream = blueprints.upstream(f"127.0.0.1:{dead}", at(good), healthchecks=passive(tcp_failures=3))
    path = blueprints.path(f"http://{upstream['name']}/")
    assert statuses(gateway, path, 20) == [200] * 20
    assert len(gateway.error_log.containing(f"127.0.0.1:{dead}")) == 3 + 1, "three tries, and that it turned"
    assert rows(shared, upstream)[dead]["tcp_failures"] == 3


def test_passive_timeouts_count_answers_that_do_not_come(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    def silent(connection: Connection) -> None:
        connection.read_head()
        connection.wait_gone()

    slow, good = make_origin(silent), make_origin(GOOD)
    upstream = blueprints.upstream(at(slow), at(good), healthchecks=passive(timeouts=1))
    path = blueprints.path(f"http://{upstream['name']}/", read_timeout=100)
    assert statuses(gateway, path) == [200] * 12
    assert len(slow.requests) == 1
    assert rows(shared, upstream)[slow.port]["why"] == "passive: timeouts"


def test_passive_counts_of_zero_disable(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    bad, good = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(bad), at(good), healthchecks=passive(tcp_failures=1, http_failures=0))
    path = blueprints.path(f"http://{upstream['name']}/")
    assert 500 in statuses(gateway, path)[-4:]


def test_an_unhealthy_target_never_comes_back_by_itself_but_when_it_is_marked(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    bad, good = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(bad), at(good), healthchecks=passive(http_failures=1, successes=1))
    path = blueprints.path(f"http://{upstream['name']}/")
    statuses(gateway, path)
    bad.behaviour = GOOD
    holds_for(lambda: statuses(gateway, path, 2) == [200, 200] and len(bad.requests) == 1, "it stays out", 0.5)
    row = rows(shared, upstream)[bad.port]
    assert shared.mark_health(row["upstream"], row["target"], row["address"], row["port"], is_healthy=True)
    until(lambda: statuses(gateway, path, 2) == [200, 200] and len(bad.requests) > 1, "it to be chosen again")
    assert rows(shared, upstream)[bad.port]["why"] == "marked by an operator"


def test_all_targets_unhealthy_is_503_and_nobody_is_asked(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    one, two = make_origin(BAD), make_origin(BAD)
    upstream = blueprints.upstream(at(one), at(two), healthchecks=passive(http_failures=1))
    path = blueprints.path(f"http://{upstream['name']}/")
    assert statuses(gateway, path, 6) == [500, 500, 503, 503, 503, 503]
    assert len(one.requests) == len(two.requests) == 1
    assert b"failure to get a peer from the ring-balancer" in gateway.get(path).body


def test_at_the_threshold_the_whole_upstream_is_unhealthy(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    bad, good = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(bad), at(good), healthchecks={**passive(http_failures=1), "threshold": 50})
    path = blueprints.path(f"http://{upstream['name']}/")
    assert statuses(gateway, path)[-8:] == [503] * 8


def test_health_survives_the_workers(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    bad, good = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(bad), at(good), healthchecks=passive(http_failures=1))
    path = blueprints.path(f"http://{upstream['name']}/")
    statuses(gateway, path)
    before = set(gateway.worker_pids())
    for pid in before:
        processes.send(pid, signal.SIGKILL)
    until(lambda: len(set(gateway.worker_pids()) - before) == WORKERS and gateway.is_settled(), "new workers", 20)
    assert statuses(gateway, path) == [200] * 12
    assert len(bad.requests) == 1


# === active ===


def test_probes_take_a_target_out_and_back(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    origin, other = make_origin(BAD), make_origin(GOOD)
    upstream = blueprints.upstream(at(origin), at(other), healthchecks=active(http_path="/alive"))
    path = blueprints.path(f"http://{upstream['name']}/")
    until(lambda: rows(shared, upstream).get(origin.port, {}).get("state") == "unhealthy", "the probe to be counted")
    assert statuses(gateway, path) == [200] * 12
    assert all(received.target == "/alive" for received in origin.requests)
    row = rows(shared, upstream)[origin.port]
    assert row["why"] == "active: http_failures"
    assert row["evidence"].startswith("GET /alive: 500 after ")
    assert row["probed_ms"] >= row["since_ms"]
    origin.behaviour = GOOD
    until(lambda: rows(shared, upstream)[origin.port]["is_healthy"], "it to be back")
    until(lambda: gateway.get(path).status == 200 and any(r.target != "/alive" for r in origin.requests), "its turn")
    assert rows(shared, upstream)[origin.port]["why"] == "active: successes"


def test_one_worker_probes_for_the_node(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(GOOD)
    blueprints.upstream(at(origin), healthchecks=active({"interval": 0.5}))
    gateway.settle()
    origin.wait_requests(1)
    origin.forget()
    holds_for(lambda: len(origin.requests) <= 5, "no more than one worker's probes", 2.2)
    assert len(origin.requests) >= 3
    assert origin.last.header("Host") == "127.0.0.1"
    assert origin.last.header("Connection") == "close"


def test_probes_go_on_within_two_seconds_when_the_prober_dies(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(GOOD)
    blueprints.upstream(at(origin), healthchecks=active({"interval": 0.1}))
    gateway.settle()
    origin.wait_requests(1)
    text = (gateway.prefix / "logs" / "error.log").read_text()
    prober = int([line for line in text.splitlines() if "this worker probes" in line][-1].split("] ")[1].split("#")[0])
    processes.send(prober, signal.SIGKILL)
    until(lambda: not processes.is_alive(prober), "the prober to die")
    origin.forget()
    origin.wait_requests(1, 2.0)
    until(lambda: len(gateway.worker_pids()) == WORKERS and gateway.is_settled(), "a new worker", 20)


def test_a_target_of_weight_zero_is_not_probed_and_gets_no_traffic(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    probed, spared = make_origin(GOOD), make_origin(GOOD)
    upstream = blueprints.upstream(at(probed), healthchecks=active())
    blueprints.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": at(spared), "weight": 0})
    path = blueprints.path(f"http://{upstream['name']}/")
    probed.wait_requests(3)
    assert statuses(gateway, path) == [200] * 12
    assert not spared.requests


def test_a_deleted_target_gets_nothing_at_once(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    gone, stays = make_origin(GOOD), make_origin(GOOD)
    upstream = blueprints.upstream(at(gone), at(stays), healthchecks=active())
    path = blueprints.path(f"http://{upstream['name']}/")
    assert statuses(gateway, path) == [200] * 12
    blueprints.admin.delete(f"/upstreams/{upstream['id']}/targets/{at(gone)}")
    gateway.settle()
    # A probe that had begun may still come in.
    stays.wait_requests(len(stays.requests) + 2)
    gone.forget()
    assert statuses(gateway, path) == [200] * 12
    stays.wait_requests(len(stays.requests) + 2)
    assert not gone.requests


def test_active_successes_and_http_failures_are_thresholds_in_a_row(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    first = [BAD, BAD, GOOD, BAD]
    was_seen = threading.Event()

    def next_answer(connection: Connection) -> None:
        number = len(origin.requests)
        (first[number] if number < len(first) else GOOD if was_seen.is_set() else BAD)(connection)

    origin = make_origin(next_answer)
    checks = active({"successes": 2}, {"http_failures": 3})
    upstream = blueprints.upstream(at(origin), healthchecks=checks)
    seen: list[tuple[int, bool]] = []

    def is_out() -> bool:
        row = rows(shared, upstream).get(origin.port)
        if row is not None and row["probed_ms"] is not None:
            seen.append((len(origin.requests), row["is_healthy"]))
        return row is not None and row["why"] == "active: http_failures"

    until(is_out, "three failures in a row", 10)
    assert all(is_healthy for count, is_healthy in seen if count <= 5), "never three failures in a row"
    was_seen.set()
    until(lambda: rows(shared, upstream)[origin.port]["why"] == "active: successes", "two successes in a row", 10)


def test_active_statuses_in_neither_list_change_nothing(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    origin = make_origin(answer(b"", status="418 I'm a teapot", keep_alive=False))
    upstream = blueprints.upstream(at(origin), healthchecks=active())
    gateway.settle()
    origin.wait_requests(4)
    row = rows(shared, upstream)[origin.port]
    assert (row["state"], row["why"], row["successes"], row["http_failures"]) == ("healthy", "initial", 0, 0)
    assert row["evidence"].startswith("GET /: 418 after ")


def test_active_counts_of_zero_disable(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared
) -> None:
    origin = make_origin(BAD)
    upstream = blueprints.upstream(at(origin), healthchecks=active(unhealthy={"http_failures": 0}))
    gateway.settle()
    origin.wait_requests(4)
    assert rows(shared, upstream)[origin.port]["state"] == "healthy"


def test_probes_send_the_headers_and_the_host_header(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(GOOD)
    checks = active(headers={"X-Probe": ["one", "two"]})
    blueprints.upstream(at(origin), healthchecks=checks, host_header="shop.test")
    gateway.settle()
    origin.wait_requests(1)
    assert origin.last.header("Host") == "shop.test"
    assert origin.last.all("X-Probe") == ["one", "two"]


def test_no_more_probes_of_an_upstream_than_concurrency_run_at_once(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    lock = threading.Lock()
    now, most = 0, 0

    def slow(connection: Connection) -> None:
        nonlocal now, most
        connection.read_head()
        with lock:
            now += 1
            most = max(most, now)
        connection.pause(0.1)
        with lock:
            now -= 1
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    origins = [make_origin(slow) for _ in range(6)]
    blueprints.upstream(*map(at, origins), healthchecks=active(concurrency=2))
    gateway.settle()
    for origin in origins:
        origin.wait_requests(2, 10)
    assert most == 2


def test_https_probes_ask_for_https_sni(
    gateway: Gateway, blueprints: Blueprints, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked: list[str | None] = []
    context = self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1").server_context()

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = note
    with Origin(GOOD, tls=context) as origin:
        checks = active(type="https", https_verify_certificate=False, https_sni="alive.test")
        blueprints.upstream(at(origin), healthchecks=checks)
        gateway.settle()
        origin.wait_requests(1)
    assert set(asked) == {"alive.test"}


@pytest.mark.parametrize("kind", ["tcp", "grpc"])
def test_tcp_and_grpc_probes_ask_for_a_connection_only(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, shared: _core.Shared, kind: str
) -> None:
    def silent(connection: Connection) -> None:
        connection.wait_gone()

    origin = make_origin(silent)
    upstream = blueprints.upstream(at(origin), healthchecks=active(type=kind))
    until(lambda: rows(shared, upstream).get(origin.port, {}).get("probed_ms"), "a probe")
    row = rows(shared, upstream)[origin.port]
    assert row["state"] == "healthy"
    assert row["evidence"].startswith("connected after ")
    assert not origin.requests
    origin.stop()
    until(lambda: rows(shared, upstream)[origin.port]["why"] == "active: tcp_failures", "a connection to be refused")


@pytest.mark.parametrize(("verify", "state"), [(True, "unhealthy"), (False, "healthy")])
def test_https_probes_verify_the_certificate_when_told_to(
    gateway: Gateway,
    blueprints: Blueprints,
    shared: _core.Shared,
    tmp_path_factory: pytest.TempPathFactory,
    verify: bool,  # noqa: FBT001 (a parameter of the test)
    state: str,
) -> None:
    certificate = self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    with Origin(GOOD, tls=certificate.server_context()) as origin:
        checks = active(type="https", https_verify_certificate=verify, https_sni="alive.test")
        upstream = blueprints.upstream(at(origin), healthchecks=checks)
        until(lambda: rows(shared, upstream).get(origin.port, {}).get("probed_ms"), "a probe")
        row = rows(shared, upstream)[origin.port]
        assert row["state"] == state, row
        assert ("certificate" in row["evidence"]) == verify


SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
INTERVAL_S = 1.0


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server in a process of its own, and its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)])

    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return False
        return True

    until(answers, "the server to listen", 20)
    yield process, port
    process.kill()
    process.wait()


@pytest.mark.parametrize("algorithm", ["round-robin", "least-connections", "latency", "consistent-hashing"])
def test_a_target_that_is_killed_under_load_fails_no_idempotent_request_and_is_out_within_one_interval(
    gateway: Gateway,
    blueprints: Blueprints,
    make_origin: MakeOrigin,
    shared: _core.Shared,
    server: tuple[subprocess.Popen[bytes], int],
    algorithm: str,
) -> None:
    process, port = server
    good = make_origin(good_forever)
    every = {"interval": INTERVAL_S}
    checks = {**active(every, every), **passive(tcp_failures=1)}
    upstream = blueprints.upstream(
        f"127.0.0.1:{port}", at(good), healthchecks=checks, algorithm=algorithm, hash_on="query_arg", hash_on_query_arg="user"
    )
    path = blueprints.path(f"http://{upstream['name']}/")
    loads = [Load(gateway.proxy_port, f"{path}?user={user}", clients=2) for user in range(4)]
    with contextlib.ExitStack() as stack:
        for load in loads:
            stack.enter_context(load)
            load.wait_for(50)
        process.kill()
        until(lambda: not rows(shared, upstream)[port]["is_healthy"], "it to be out", INTERVAL_S)
        for load in loads:
            load.wait_for(50)
    assert [failure for load in loads for failure in load.failures] == []
    assert statuses(gateway, path) == [200] * 12
