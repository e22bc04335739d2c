# SPDX-License-Identifier: Apache-2.0
"""Do requests notice that a name's answer runs out each second and the name server is slow?"""

from __future__ import annotations

import statistics

from bench.name_server import NameServer
from bench.paced import Latencies, paced
from bench.scenarios import Bench
from bench.targets import HOST, UNLOGGED
from tests.support.gateway import Gateway
from tests.support.ports import free_port

WORKERS = 1
PACE_PER_S = 300
SERVER_DELAY_MS = 200
# As long as this only if it waited for the name server.
WAITED_MS = SERVER_DELAY_MS / 2
# Label → host name (its TTL stands in front), and whether it is the Target of an Upstream.
NAMES = {
    "TTL 1 h": ("ttl3600-service.bench.test", False),
    "TTL 1 s": ("ttl1-service.bench.test", False),
    "TTL 1 s, as a Target": ("ttl1-target.bench.test", True),
}
QUIET = "TTL 1 h"


def dns(bench: Bench) -> dict[str, dict[str, float]]:
    """A light load to names that must be asked for every second, and to one that need not, in alternating rounds."""
    samples: dict[str, list[Latencies]] = {label: [] for label in NAMES}
    port = free_port()
    server = NameServer(port, SERVER_DELAY_MS).start()
    try:
        with Gateway({**UNLOGGED, "dns_resolver": f"{HOST}:{port}"}, workers=WORKERS) as gateway:
            for number, (name, is_target) in enumerate(NAMES.values()):
                _route(gateway, bench.backend.port, number, name, is_target=is_target)
            gateway.settle()
            # Nothing is known of a name before its first request, which waits.
            for number in range(len(NAMES)):
                paced(gateway.proxy_port, _host(number), "/", PACE_PER_S, 1)
            for _ in range(bench.options.rounds):
                for number, label in enumerate(NAMES):
                    samples[label].append(paced(gateway.proxy_port, _host(number), "/", PACE_PER_S, bench.options.seconds))
        asked = server.questions()
        assert all(asked.get(name, 0) > 1 for label, (name, _) in NAMES.items() if label != QUIET), f"no refresh: {asked}"
    finally:
        server.kill()
    return {label: _told(samples[label], samples[QUIET], asked.get(name, 0)) for label, (name, _) in NAMES.items()}


def _host(number: int) -> str:
    return f"client{number}.bench.test"


def _route(gateway: Gateway, backend_port: int, number: int, name: str, *, is_target: bool) -> None:
    host = name
    if is_target:
        host = f"upstream{number}"
        gateway.admin.post("/upstreams", {"name": host})
        gateway.admin.post(f"/upstreams/{host}/targets", {"target": f"{name}:{backend_port}"})
    gateway.admin.post("/services", {"name": f"s{number}", "url": f"http://{host}:{backend_port}"})
    gateway.admin.post(f"/services/s{number}/routes", {"hosts": [_host(number)]})


def _told(samples: list[Latencies], quiet: list[Latencies], asked: int) -> dict[str, float]:
    failures = [failure for one in samples for failure in one.failures]
    assert not failures, f"{len(failures)} requests failed, such as {failures[0]}"
    p99 = [one.percentile(99) for one in samples]
    return {
        "requests": float(sum(len(one.all_ms) for one in samples)),
        "questions to the name server": float(asked),
        "p50, ms": statistics.median(one.percentile(50) for one in samples),
        "p99, ms": statistics.median(p99),
        "p99, ratio to TTL 1 h": statistics.median(a / b.percentile(99) for a, b in zip(p99, quiet, strict=True)),
        "longest, ms": max(one.longest for one in samples),
        f"requests of {WAITED_MS:g} ms and more": float(sum(took >= WAITED_MS for one in samples for took in one.all_ms)),
    }
