# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how is one sample taken?"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.authentication import PLUGINS, write_script
from bench.load import wrk
from bench.machine import LOAD_CORE, PROXY_CORE, Counter, busy_us, cpu_us, rss_bytes
from bench.targets import BODY, HOST, Backend, Nginx, Pylae, Target, elapsed_ms, get
from tests.support import processes

MANY_ROUTES = 10_000
CONFIG_ROUTES = 1_000
WARM_UP_S = 1


@dataclass(frozen=True)
class LoadScenario:
    """Requests of one kind, all targets interleaved within each round."""

    name: str
    title: str
    profile: str
    connections: int
    path: str = "/"
    script: str = "plain"


LOADS = [
    LoadScenario("plain", "plain, keep-alive, 100 B, c=32", "plain", 32),
    LoadScenario("plain256", "plain, keep-alive, 100 B, c=256", "plain", 256),
    LoadScenario("log", "plain with access log on both, c=32", "log", 32),
    LoadScenario("auth", "key-auth + rate-limiting, 100 consumers, c=32", "auth", 32, script="keys"),
    *(
        LoadScenario(name, f"{plugin} alone ({name}), 100 consumers, c=32", name, 32, script="credentials")
        for name, plugin in PLUGINS.items()
    ),
    LoadScenario("down1m", "1 MiB download, c=8", "plain", 8, "/1m"),
    LoadScenario("up1m", "1 MiB upload, c=8", "plain", 8, "/sink", "upload"),
]


@dataclass
class Sample:
    """One round of one target.

    Attributes:
        others_ratio: share of each core used by nobody of ours: [proxy's, load's].
        instructions: user instructions per request; None where perf may not count them.
    """

    rps: float
    cpu_us: float
    core_ratio: float
    others_ratio: tuple[float, float]
    p50_ms: float
    p99_ms: float
    mib_s: float
    errors: int
    instructions: float | None


@dataclass
class Options:
    """What the command line says."""

    rounds: int
    seconds: int
    idle: int
    routes: int = MANY_ROUTES
    is_quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """How many of something: enough to measure, or just enough to see that the scenario works."""
        return quick if self.is_quick else full


@dataclass
class Bench:
    """The backend and a folder for scripts; samples by scenario and target."""

    options: Options
    peers: list[type[Target]]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pylae-bench-")))
    backend: Backend = field(default_factory=Backend)
    counts_instructions: bool = True

    def measure(self, target: Target, scenario: LoadScenario, routes: int = 1) -> Sample:
        """One round of wrk against one target."""
        url = f"http://{HOST}:{target.port}"
        counter = Counter.attach(target.root) if self.counts_instructions else Counter(None)
        cpu_before, backend_before = cpu_us(target.root), cpu_us(self.backend.root)
        busy_before, children_before, since_s = busy_us(), _children_us(), time.perf_counter()
        numbers = wrk(
            self.folder,
            url,
            scenario.path,
            connections=scenario.connections,
            script=scenario.script,
            seconds=self.options.seconds,
            routes=routes,
        )
        wall_us = (time.perf_counter() - since_s) * 1e6
        cpu = cpu_us(target.root) - cpu_before
        load = cpu_us(self.backend.root) - backend_before + _children_us() - children_before
        busy = [after - before for before, after in zip(busy_before, busy_us(), strict=True)]
        instructions = counter.read()
        self.counts_instructions = self.counts_instructions and instructions is not None
        return Sample(
            rps=numbers.requests / numbers.seconds,
            cpu_us=cpu / max(1, numbers.requests),
            core_ratio=cpu / wall_us,
            others_ratio=(
                max(0.0, busy[PROXY_CORE] - cpu) / wall_us,
                max(0.0, busy[LOAD_CORE] - load) / wall_us,
            ),
            p50_ms=numbers.p50_ms,
            p99_ms=numbers.p99_ms,
            mib_s=numbers.mib / numbers.seconds,
            errors=numbers.errors,
            instructions=instructions / max(1, numbers.requests) if instructions else None,
        )

    def run(self, scenario: LoadScenario) -> dict[str, list[Sample]]:
        """All targets up at once, rounds A B C A B C."""
        targets = [peer(self.backend.port) for peer in self.peers if scenario.profile in peer.profiles]
        return self.interleave({target.name: (target, 1) for target in targets}, scenario)

    def run_rooms(self) -> dict[str, list[Sample]]:
        """Ourselves, with one thing more each: what a room adds."""
        found: dict[str, list[Sample]] = {}
        profiles = {"plain": "plain", "access log": "log", "key-auth": "room:key-auth", "limit": "room:rate-limiting"}
        with contextlib.ExitStack() as stack:
            targets = {}
            for label, profile in profiles.items():
                script = "keys" if profile == "room:key-auth" else "plain"
                target = Pylae(self.backend.port)
                stack.callback(target.stop)
                target.start(profile)
                targets[label] = (target, LoadScenario(label, "", profile, 32, script=script))
            for target, scenario in targets.values():
                self._warm({"": (target, 1)}, scenario)
            for _ in range(self.options.rounds):
                for label, (target, scenario) in targets.items():
                    found.setdefault(label, []).append(self.measure(target, scenario))
        return found

    def interleave(self, targets: dict[str, tuple[Target, int]], scenario: LoadScenario) -> dict[str, list[Sample]]:
        """Start all, warm each up, then one round after the other."""
        with contextlib.ExitStack() as stack:
            for target, _ in targets.values():
                stack.callback(target.stop)
                target.start(scenario.profile)
                if target.credentials:
                    write_script(self.folder, target.credentials)
            return self.interleave_started(targets, scenario)

    def interleave_started(self, targets: dict[str, tuple[Target, int]], scenario: LoadScenario) -> dict[str, list[Sample]]:
        """The same with targets that are up."""
        found: dict[str, list[Sample]] = {}
        self._warm(targets, scenario)
        for number in range(self.options.rounds):
            for label, (target, routes) in targets.items():
                sample = self.measure(target, scenario, routes)
                found.setdefault(label, []).append(sample)
                say(
                    f"  {scenario.name} round {number + 1} {label}: {sample.rps:,.0f}/s, {sample.cpu_us:.1f} us, "
                    f"errors {sample.errors}"
                )
        return found

    def _warm(self, targets: dict[str, tuple[Target, int]], scenario: LoadScenario) -> None:
        for target, routes in targets.values():
            wrk(
                self.folder,
                f"http://{HOST}:{target.port}",
                scenario.path,
                connections=scenario.connections,
                script=scenario.script,
                seconds=WARM_UP_S,
                routes=routes,
            )


def _children_us() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1e6


def say(text: str) -> None:
    """Progress, beside the results."""
    sys.stderr.write(text + "\n")


# === what is not a plain load ===


def config(bench: Bench) -> dict[str, float]:
    """Admin write → served by every worker, two workers, 1,000 routes loaded.

    Sixteen kept connections are spread over the workers by the kernel; a route counts as served when each of them
    gets it. Not pinned: workers, control and client share both cores as they would.
    """
    found: dict[str, float] = {}
    target = Pylae(bench.backend.port, CONFIG_ROUTES, workers=2, core=None)
    try:
        target.start("routes")
        writes, served = [], []
        with _connections(target.port, 16) as connections:
            for number in range(CONFIG_ROUTES, CONFIG_ROUTES + 30):
                since_s = time.perf_counter()
                target.add_route(number)
                writes.append(elapsed_ms(since_s))
                for connection in connections:
                    while not _answers(connection, number):
                        pass
                served.append(elapsed_ms(since_s))
        found["write, median ms"] = statistics.median(writes)
        found["served by every worker, median ms"] = statistics.median(served)
        found["served by every worker, largest ms"] = max(served)
    finally:
        target.stop()
    return found


@contextlib.contextmanager
def _connections(port: int, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    connections = [http.client.HTTPConnection(HOST, port, timeout=10) for _ in range(count)]
    yield connections
    for connection in connections:
        connection.close()


def _answers(connection: http.client.HTTPConnection, number: int) -> bool:
    connection.request("GET", f"/r{number}/x", headers={"Host": f"h{number}.bench.test"})
    response = connection.getresponse()
    return response.read() == BODY.encode() and response.status == 200


def memory(bench: Bench, peer: type[Target]) -> dict[str, float]:
    """RSS in MiB: idle, after c=256, and KiB per idle keep-alive connection that made one request each."""
    target = peer(bench.backend.port)
    held: list[socket.socket] = []
    try:
        target.start("plain")
        root = _worker(target)
        idle = rss_bytes(root)
        url = f"http://{HOST}:{target.port}"
        wrk(bench.folder, url, "/", connections=256, script="plain", seconds=2)
        loaded = rss_bytes(root)
        count = min(bench.options.idle, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 200)
        for _ in range(count):
            link = socket.create_connection((HOST, target.port), 10)
            link.sendall(b"GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n")
            assert link.recv(4096).startswith(b"HTTP/1.1 200"), "an idle connection's request failed"
            held.append(link)
        many = rss_bytes(root)
        return {
            "worker idle, MiB": idle / 2**20,
            "worker after c=256, MiB": loaded / 2**20,
            "KiB per idle connection": (many - loaded) / 1024 / count,
            "whole tree, MiB": rss_bytes(target.root) / 2**20,
        }
    finally:
        for link in held:
            link.close()
        target.stop()


def _worker(target: Target) -> int:
    if isinstance(target, Pylae):
        assert target.gateway
        return target.gateway.worker_pids()[0]
    below = processes.children(target.root)
    return below[0] if below else target.root


def start(bench: Bench) -> dict[str, float]:
    """`pylae start` with one Route in a migrated database → first proxied 200, in ms."""
    target = Pylae(bench.backend.port, core=None)
    target.start("plain")
    gateway = target.gateway
    assert gateway
    took: list[float] = []
    try:
        for _ in range(bench.options.rounds):
            gateway.end()
            since_s = time.perf_counter()
            gateway.spawn()
            while get(target.port, "/")[0] != 200:
                assert elapsed_ms(since_s) < 30_000, f"no answer 30 s after start: {gateway.output()}"
            took.append(elapsed_ms(since_s))
    finally:
        target.stop()
    return {"start → first proxied 200, median ms": statistics.median(took), "largest ms": max(took)}


def prepare() -> None:
    """Allow as many files as the machine does, and keep the bench itself off the proxy's core."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two cores are needed: one for the proxy, one for the load")


REFERENCE = Nginx.name
