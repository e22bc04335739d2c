# SPDX-License-Identifier: Apache-2.0
"""What does a request cost among many Routes, and does a worker stall while they are built anew?"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.admin import CONTROL_NICE, PATIENCE_S, load_file, pin, push_document
from bench.machine import LOAD_CORE, PROXY_CORE
from bench.paced import Latencies, paced
from bench.scenarios import Bench, LoadScenario, Sample
from bench.targets import HOST, UNLOGGED, Pylae
from tests.support.gateway import Gateway

FLAVOURS = ("traditional_compatible", "expressions")
FACTORS = (1, 10)
SWAPS_PER_S = 10
PACE_PER_S = 500
ONE_ROUTE = "1 route"


class Declared(Pylae):
    """Ourselves without a database: all Routes in one `POST /config`, in one of the router's flavours."""

    def __init__(self, backend_port: int, routes: int, flavour: str) -> None:
        super().__init__(backend_port, routes)
        self.flavour = flavour

    def make(self, profile: str) -> Gateway:
        """As the others, without a database."""
        gateway = super().make(profile)
        gateway.settings |= {"database": "off", "router_flavor": self.flavour, "nginx_admin_client_max_body_size": "100m"}
        return gateway

    def configure(self, profile: str) -> None:
        """The one call."""
        del profile
        assert self.gateway
        client = http.client.HTTPConnection(HOST, self.gateway.admin_port, timeout=PATIENCE_S)
        push_document(client, json.dumps(document(self.backend_port, self.routes, self.flavour)).encode())
        client.close()
        self.gateway.settle(PATIENCE_S)


def document(backend_port: int, routes: int, flavour: str) -> dict[str, Any]:
    """Routes of a host and a path each."""
    listed = [route(number, flavour) for number in range(routes)]
    return {
        "_format_version": "3.0",
        "services": [{"name": "bench", "url": f"http://{HOST}:{backend_port}", "routes": listed}],
    }


def route(number: int, flavour: str) -> dict[str, Any]:
    """The Route of a number, in the terms of a flavour."""
    host, path = f"h{number}.bench.test", f"/r{number}"
    common = {"name": f"r{number}", "strip_path": False, "request_buffering": False}
    if flavour == "expressions":
        return {**common, "expression": f'http.host == "{host}" && http.path ^= "{path}"', "priority": 1}
    return {**common, "hosts": [host], "paths": [path]}


def routes(bench: Bench, flavour: str) -> dict[str, list[Sample]]:
    """One, ten thousand and a hundred thousand Routes, a gateway each, in turns."""
    scenario = LoadScenario(f"routes, {flavour}", "", "routes", 32, script="routes")
    counts = [bench.options.routes * factor for factor in FACTORS]
    targets = {ONE_ROUTE: (Declared(bench.backend.port, 1, flavour), 1)}
    targets |= {f"{count:,} routes": (Declared(bench.backend.port, count, flavour), count) for count in counts}
    return bench.interleave(dict(targets), scenario)


def stall(bench: Bench, flavour: str) -> dict[str, float]:
    """The longest latency of a light load while Routes are added, against calm, in alternating rounds.

    The worker and its helper thread, which builds the new router, share one core; control is nice 10 on the other, as in `push`.
    """
    count, seconds = bench.options.routes, bench.options.seconds
    calm: list[Latencies] = []
    busy: list[Latencies] = []
    with Gateway({**UNLOGGED, "router_flavor": flavour}) as gateway:
        load_file(gateway, document(bench.backend.port, count, flavour))
        (worker,), control = gateway.worker_pids(), gateway.control_pid()
        pin(worker, PROXY_CORE)
        pin(control, LOAD_CORE)
        os.setpriority(os.PRIO_PROCESS, control, CONTROL_NICE)
        asked = (gateway.proxy_port, "h0.bench.test", "/r0/x", PACE_PER_S, seconds)
        paced(*asked)
        number, writes = count, 0
        for _ in range(bench.options.rounds):
            calm.append(paced(*asked))
            pause = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(paced, *asked)
                while not load.done():
                    gateway.admin.post("/services/bench/routes", route(number, flavour))
                    number, writes = number + 1, writes + 1
                    pause.wait(1 / SWAPS_PER_S)
                busy.append(load.result())
            gateway.settle(PATIENCE_S)
    failures = [failure for one in (*calm, *busy) for failure in one.failures]
    assert not failures, f"{len(failures)} requests failed, such as {failures[0]}"
    return {
        "Routes": float(count),
        "swaps/s": writes / (seconds * bench.options.rounds),
        "longest latency calm, median of the rounds, ms": statistics.median(one.longest for one in calm),
        "longest latency with swaps, median of the rounds, ms": statistics.median(one.longest for one in busy),
        "the same, longer by, median of the rounds, ms": statistics.median(
            two.longest - one.longest for one, two in zip(calm, busy, strict=True)
        ),
        "longest latency calm, of all rounds, ms": max(one.longest for one in calm),
        "longest latency with swaps, of all rounds, ms": max(one.longest for one in busy),
        "p99.9 calm, median of the rounds, ms": statistics.median(one.percentile(99.9) for one in calm),
        "p99.9 with swaps, median of the rounds, ms": statistics.median(one.percentile(99.9) for one in busy),
        "requests": float(sum(len(one.all_ms) for one in (*calm, *busy))),
    }
