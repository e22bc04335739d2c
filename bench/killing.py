# SPDX-License-Identifier: Apache-2.0
"""What do clients notice when an origin is killed, and how soon is it asked no more?"""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.load import wrk
from bench.origin import Origin
from bench.scenarios import Bench, say
from bench.targets import HOST, UNLOGGED, elapsed_ms
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.wait import until

ORIGINS = 4
WORKERS = 2
CONNECTIONS = 32
# So that at 32 connections each origin always has some requests in its hands.
ORIGIN_DELAY_MS = 20
PROBE_INTERVAL_S = 1.0
KILLS, QUICK_KILLS = 5, 1
BEFORE_S, AFTER_S = 1, 3
POLL_S = 0.005
UPSTREAM = "killed"

ACTIVE = {
    "healthy": {"interval": PROBE_INTERVAL_S, "successes": 1},
    "unhealthy": {"interval": PROBE_INTERVAL_S, "tcp_failures": 1, "timeouts": 1, "http_failures": 1},
}
PASSIVE = {"healthy": {"successes": 1}, "unhealthy": {"tcp_failures": 2, "timeouts": 2, "http_failures": 2}}
CHECKS: dict[str, dict[str, Any]] = {
    "active + passive": {"active": ACTIVE, "passive": PASSIVE},
    "active alone": {"active": ACTIVE},
}


@dataclass
class _Kill:
    """One kill.

    Attributes:
        out_ms: from the signal until the Target was turned unhealthy, as the Admin API says it.
        last_attempt_ms: from the signal until the last attempt at it was logged; 0: none was.
        attempts: at it, that failed after the signal; each was made up for by another Target, or the request failed.
    """

    requests: int
    failed: int
    out_ms: float
    last_attempt_ms: float
    attempts: int
    longest_ms: float


def kill(bench: Bench) -> dict[str, dict[str, float]]:
    """SIGKILL to one of four origins under GETs, once with all checks and once with probes alone."""
    return {label: _told([*_kills(bench, checks)]) for label, checks in CHECKS.items()}


def _kills(bench: Bench, checks: dict[str, Any]) -> list[_Kill]:
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(UNLOGGED, workers=WORKERS))
        origins = {}
        gateway.admin.post("/upstreams", {"name": UPSTREAM, "healthchecks": checks})
        for number in range(ORIGINS):
            port = free_port()
            origins[port] = stack.enter_context(Origin(port, f"origin-{number}", ORIGIN_DELAY_MS))
            gateway.admin.post(f"/upstreams/{UPSTREAM}/targets", {"target": f"{HOST}:{port}"})
        gateway.admin.post("/services", {"name": UPSTREAM, "url": f"http://{UPSTREAM}"})
        gateway.admin.post(f"/services/{UPSTREAM}/routes", {"paths": ["/"]})
        gateway.settle()
        found = []
        for number in range(bench.options.size(KILLS, QUICK_KILLS)):
            port = list(origins)[number % ORIGINS]
            one = _kill(bench, gateway, origins[port], port)
            say(f"  kill {number + 1}: {one}")
            found.append(one)
            origins[port].start()
            until(partial(_is_healthy, gateway, port), "the origin to be back in rotation", 10)
        return found


def _kill(bench: Bench, gateway: Gateway, origin: Origin, port: int) -> _Kill:
    url, attempt = f"http://{HOST}:{gateway.proxy_port}", f'upstream: "http://{HOST}:{port}/'
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(
            wrk,
            bench.folder,
            url,
            "/",
            connections=CONNECTIONS,
            script="plain",
            seconds=BEFORE_S + round(PROBE_INTERVAL_S) + AFTER_S,
        )
        # Anywhere between two probes.
        time.sleep(BEFORE_S + random.random() * PROBE_INTERVAL_S)
        gateway.error_log.mark()
        before = gateway.error_log.containing(attempt)
        assert not before, f"an attempt failed while all origins lived: {before[0]}"
        killed_ms, since_s = time.time() * 1e3, time.perf_counter()
        origin.kill()
        attempts, last_attempt_ms, turned_ms = 0, 0.0, None
        while not load.done():
            count = len(gateway.error_log.containing(attempt))
            if count > attempts:
                attempts, last_attempt_ms = count, elapsed_ms(since_s)
            if turned_ms is None:
                row = _health(gateway, port)
                turned_ms = row["since_ms"] if row["state"] == "unhealthy" else None
            time.sleep(POLL_S)
        numbers = load.result()
    assert turned_ms is not None, f"the killed origin is still in rotation {elapsed_ms(since_s):.0f} ms after the signal"
    return _Kill(numbers.requests, numbers.errors, turned_ms - killed_ms, last_attempt_ms, attempts, numbers.max_ms)


def _is_healthy(gateway: Gateway, port: int) -> bool:
    return bool(_health(gateway, port)["state"] == "healthy")


def _health(gateway: Gateway, port: int) -> dict[str, Any]:
    """What is known of the address of an origin."""
    for target in gateway.admin.get(f"/upstreams/{UPSTREAM}/health")["data"]:
        for address in target["data"]["addresses"]:
            if address["port"] == port:
                row: dict[str, Any] = address["pylae"]
                return row
    raise AssertionError(f"no address with port {port} in the health of {UPSTREAM}")


def _told(kills: list[_Kill]) -> dict[str, float]:
    return {
        "kills": float(len(kills)),
        "requests": float(sum(one.requests for one in kills)),
        "failed requests": float(sum(one.failed for one in kills)),
        "out of rotation after the kill, median ms": statistics.median(one.out_ms for one in kills),
        "out of rotation after the kill, largest ms": max(one.out_ms for one in kills),
        "last attempt at it after the kill, largest ms": max(one.last_attempt_ms for one in kills),
        "attempts at it that failed, of a kill, median": statistics.median(one.attempts for one in kills),
        "longest latency of a request, ms": max(one.longest_ms for one in kills),
    }
