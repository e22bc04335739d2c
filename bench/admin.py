# SPDX-License-Identifier: Apache-2.0
"""How fast can the gateway be told what to do, and does traffic notice?"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.machine import LOAD_CORE, PROXY_CORE, cpu_us, rss_bytes
from bench.scenarios import Bench, say
from bench.targets import BODY, HOST, UNLOGGED, elapsed_ms
from tests.support.gateway import COMMAND, Gateway
from tests.support.wait import until

CONTROL_NICE = 10
LIST_SIZE = 1_000
PUSHED_ROUTES, QUICK_PUSHED_ROUTES = 50_000, 200
PUSHES, QUICK_PUSHES = 10, 2
QUIET_S, QUICK_QUIET_S = 10, 1
SMALL_ROUTES, QUICK_SMALL_ROUTES = 5_000, 100
MANY_PUSHES, QUICK_MANY_PUSHES = 200, 4
FEW_PUSHES, QUICK_FEW_PUSHES = 20, 2
PATIENCE_S = 120.0
_US = 1e6


def sync(bench: Bench) -> dict[str, float]:
    """PUTs of Routes, Consumers and their keys one after the other, by one client on one kept connection."""
    count = bench.options.routes
    with Gateway({"log_level": "warn", "admin_access_log": "off"}) as gateway:
        control = gateway.control_pid()
        client = http.client.HTTPConnection(HOST, gateway.admin_port, timeout=PATIENCE_S)
        _put(client, "/services/bench", {"url": f"http://{HOST}:{bench.backend.port}"})
        cpu_before_us, since_s = cpu_us(control), time.perf_counter()
        for path, values in _rich(count):
            _put(client, path, values)
        took_s, cpu_s = time.perf_counter() - since_s, (cpu_us(control) - cpu_before_us) / _US
        found = {
            "entities": 3.0 * count,
            "entities/s": 3 * count / took_s,
            "control's CPU, µs per entity": cpu_s * _US / (3 * count),
            "control's CPU, share of the time": cpu_s / took_s,
        }
        pages = [_timed_ms(lambda: _get(client, f"/routes?size={LIST_SIZE}")) for _ in range(20)]
        found[f"list page of {LIST_SIZE:,} Routes, median ms"] = statistics.median(pages)
        client.close()
        return found


def _rich(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(count):
        route = {"paths": [f"/r{number}"], "hosts": [f"h{number}.bench.test"], "service": {"name": "bench"}, "tags": ["bench"]}
        yield f"/routes/{_id('route', number)}", {"name": f"r{number}", **route}
    for number in range(count):
        yield f"/consumers/{_id('consumer', number)}", {"username": f"c{number}", "tags": ["bench"]}
        consumer = {"id": _id("consumer", number)}
        yield f"/key-auths/{_id('key', number)}", {"key": f"key-{number}", "consumer": consumer}


def _id(kind: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}{number}"))


def push(bench: Bench) -> dict[str, float]:
    """`POST /config` of many Routes, one worker on a core of its own, control nice 10 on the other, under a client."""
    size = bench.options.size
    routes = size(PUSHED_ROUTES, QUICK_PUSHED_ROUTES)
    with Gateway({**UNLOGGED, "database": "off"}) as gateway:
        (worker,), control = gateway.worker_pids(), gateway.control_pid()
        pin(worker, PROXY_CORE)
        pin(control, LOAD_CORE)
        os.setpriority(os.PRIO_PROCESS, control, CONTROL_NICE)
        client = http.client.HTTPConnection(HOST, gateway.admin_port, timeout=PATIENCE_S)
        push_document(client, _document(bench, routes, 0))
        _until_served(gateway, 0)
        with _Traffic(gateway.proxy_port) as traffic:
            quiet = traffic.during(lambda: time.sleep(size(QUIET_S, QUICK_QUIET_S)))
            accepted, served = [], []

            def pushes() -> None:
                for round_number in range(1, size(PUSHES, QUICK_PUSHES) + 1):
                    document = _document(bench, routes, round_number)
                    since_s = time.perf_counter()
                    push_document(client, document)
                    accepted.append(elapsed_ms(since_s))
                    _until_served(gateway, round_number)
                    served.append(elapsed_ms(since_s))

            busy = traffic.during(pushes)
        return {
            "Routes": float(routes),
            "accepted, median s": statistics.median(accepted) / 1e3,
            "served by all workers, median s": statistics.median(served) / 1e3,
            "served by all workers, largest s": max(served) / 1e3,
            "traffic meanwhile: requests": float(len(busy)),
            "traffic meanwhile: failed": float(traffic.failed),
            "p99 quiet, ms": _p99(quiet),
            "p99 while pushing, ms": _p99(busy),
            "p99, ratio": _p99(busy) / _p99(quiet),
        }


def memory(bench: Bench) -> dict[str, float]:
    """RSS after many `POST /config`, against after a few; each document has other Routes than the one before."""
    size = bench.options.size
    routes = size(SMALL_ROUTES, QUICK_SMALL_ROUTES)
    counts = (size(FEW_PUSHES, QUICK_FEW_PUSHES), size(MANY_PUSHES, QUICK_MANY_PUSHES))
    with Gateway({**UNLOGGED, "database": "off"}) as gateway:
        client = http.client.HTTPConnection(HOST, gateway.admin_port, timeout=PATIENCE_S)
        (worker,), control = gateway.worker_pids(), gateway.control_pid()
        few: dict[str, float] = {}
        found: dict[str, float] = {}
        for number in range(1, counts[-1] + 1):
            push_document(client, _document(bench, routes, number))
            _until_served(gateway, number)
            if number in counts:
                now = {"worker": float(rss_bytes(worker)), "control": float(rss_bytes(control))}
                few = few or now
                for name, rss in now.items():
                    found[f"{name}, MiB after {number} pushes of {routes:,} Routes"] = rss / 2**20
                    if number == counts[-1]:
                        found[f"{name}, ratio"] = rss / few[name]
        return found


def _document(bench: Bench, routes: int, round_number: int) -> bytes:
    """Routes of which every path is new in each round."""
    listed = [
        {"name": f"r{number}", "hosts": [f"h{number}.bench.test"], "paths": [f"/v{round_number}/r{number}"], "strip_path": False}
        for number in range(routes)
    ]
    listed.append({"name": "all", "paths": ["/"], "strip_path": False})
    service = {"name": "bench", "url": f"http://{HOST}:{bench.backend.port}", "routes": listed}
    return json.dumps({"_format_version": "3.0", "services": [service]}).encode()


def _until_served(gateway: Gateway, round_number: int) -> None:
    """Until every worker says that it serves what was accepted, and a Route of the document answers."""
    gateway.settle(PATIENCE_S)
    reply = gateway.get(f"/v{round_number}/r0", host="h0.bench.test")
    assert reply.status == 200, f"round {round_number} is not served: {reply.status}"


class _Traffic:
    """One client that asks as fast as it is answered, in a thread; a latency per answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._latencies: list[float] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failed = 0

    def __enter__(self) -> _Traffic:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        while not self._ends.is_set():
            since_s = time.perf_counter()
            try:
                connection.request("GET", "/", headers={"Host": "bench.test"})
                response = connection.getresponse()
                is_good = response.read() == BODY.encode() and response.status == 200
            except (OSError, http.client.HTTPException) as error:
                say(f"a request failed: {error}")
                connection.close()
                is_good = False
            self.failed += not is_good
            self._latencies.append(elapsed_ms(since_s))

    def during(self, work: Callable[[], None]) -> list[float]:
        """Latencies, in ms, of the requests that ended while the work was done."""
        first = len(self._latencies)
        work()
        return self._latencies[first:]


def _p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)]


def pin(pid: int, core: int) -> None:
    """Keep every thread that a process has on one core; those to come inherit it."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def _timed_ms(work: Callable[[], object]) -> float:
    since_s = time.perf_counter()
    work()
    return elapsed_ms(since_s)


def _get(client: http.client.HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    response = client.getresponse()
    body = response.read()
    assert response.status == 200, f"GET {path}: {response.status} {body[:200]!r}"
    return body


def _put(client: http.client.HTTPConnection, path: str, values: dict[str, Any]) -> None:
    client.request("PUT", path, json.dumps(values), {"Content-Type": "application/json"})
    response = client.getresponse()
    body = response.read()
    assert response.status == 200, f"PUT {path}: {response.status} {body[:200]!r}"


def push_document(client: http.client.HTTPConnection, document: bytes) -> None:
    """`POST /config`, accepted."""
    client.request("POST", "/config", document, {"Content-Type": "application/json"})
    response = client.getresponse()
    body = response.read()
    assert response.status == 201, f"POST /config: {response.status} {body[:200]!r}"


def load_file(gateway: Gateway, document: dict[str, Any]) -> None:
    """Store a document in the gateway's database, and wait until every worker serves it.

    Raises:
        RuntimeError: it was not stored.
    """
    file = gateway.folder / "document.json"
    file.write_text(json.dumps(document))
    run = subprocess.run(
        [COMMAND, "config", "db_import", str(file)],
        env=gateway.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    # On a busy machine the command loses patience; the gateway goes on, and stores all or nothing.
    if run.returncode and "Still importing" not in run.stderr:
        raise RuntimeError(f"db_import: {run.stdout[-500:]}{run.stderr[-500:]}")
    service = document["services"][0]["name"]
    until(lambda: gateway.admin.call("GET", f"/services/{service}").status == 200, "the document to be stored", PATIENCE_S)
    gateway.settle(PATIENCE_S)
