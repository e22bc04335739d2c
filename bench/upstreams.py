# SPDX-License-Identifier: Apache-2.0
"""What do many Upstreams cost, how soon does a change of one Target count, and which keys move when a Target comes?"""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.admin import PATIENCE_S, load_file
from bench.load import Numbers, wrk
from bench.machine import LOAD_CORE
from bench.scenarios import Bench, say
from bench.targets import HOST, UNLOGGED, Target, elapsed_ms, nginx
from tests.support import processes
from tests.support.gateway import Gateway
from tests.support.raw import Client, request
from tests.support.wait import until

UPSTREAMS, QUICK_UPSTREAMS = 10_000, 200
TARGETS = 10
WATCHED, QUICK_WATCHED = 20, 3
LOADED = 50
WORKERS = 2
KEYS, QUICK_KEYS = 5_000, 300
FEW, MORE = 10, 11
ALL_OF_IT = 65_535
LOAD_CONNECTIONS = 8
CHANGES_PER_S = 10
_MIB = 2**20


class Echo(Target):
    """nginx on every address of the loopback; answers with the address that was called."""

    name, program, core = "echo", "nginx", LOAD_CORE

    def __init__(self) -> None:
        super().__init__(0)

    def arguments(self, profile: str) -> list[str]:
        """The same for every profile."""
        del profile
        return nginx(
            self.folder,
            "  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;\n"
            f'  server {{ listen 0.0.0.0:{self.port} backlog=4096; location / {{ return 200 "$server_addr"; }} }}',
        )

    def check(self, profile: str) -> None:
        """Another address is answered by its own name."""
        del profile
        until(lambda: processes.is_alive(self.root) and self._echoes("127.9.9.9"), f"{self.name}: {self.output()}", 10)

    def _echoes(self, address: str) -> bool:
        try:
            with Client(self.port, address) as client:
                return client.send(request()).read_reply().text == address
        except OSError:
            return False


# === one connection to each worker ===


@contextmanager
def one_each(gateway: Gateway) -> Iterator[list[Client]]:
    """A kept connection to each worker, the worker told by whose descriptor the other end is."""
    found: dict[int, Client] = {}
    spare: list[Client] = []
    pids = gateway.worker_pids()
    try:
        for _ in range(200):
            client = gateway.connect()
            # The kernel shows an owner only of a connection that was accepted.
            client.send(request(path="/-/nothing-here")).read_reply()
            owner = _owner(pids, gateway.proxy_port, client.local_port)
            if owner in found:
                spare.append(client)
            else:
                found[owner] = client
            if len(found) == len(pids):
                break
        assert len(found) == len(pids), f"the kernel gave all connections to {list(found)} of {pids}"
        for client in spare:
            client.close()
        yield list(found.values())
    finally:
        for client in found.values():
            client.close()


def _owner(pids: list[int], port: int, peer_port: int) -> int:
    """Which process has the end of a connection that is bound to `port`."""
    pattern = rf" \w+:{port:04X} \w+:{peer_port:04X} 01 .*"
    line = re.search(pattern, Path("/proc/net/tcp").read_text())
    assert line, f"no connection {peer_port} → {port}"
    link = f"socket:[{line[0].split()[8]}]"
    for pid in pids:
        if link in processes.open_files(pid):
            return pid
    raise AssertionError(f"{link} is none of the workers' {pids}")


def _body(client: Client, path: str, *lines: str) -> str:
    reply = client.send(request("GET", path, *lines)).read_reply()
    assert reply.status == 200, f"{path}: {reply.status} {reply.text[:200]}"
    return reply.text


# === upstreams ===


def upstreams(bench: Bench) -> dict[str, float]:
    """Ten thousand Upstreams of ten Targets: memory; a change of one Target until each worker uses it, quiet and under load."""
    count = bench.options.size(UPSTREAMS, QUICK_UPSTREAMS)
    with ExitStack() as stack:
        echo = Echo()
        stack.callback(echo.stop)
        echo.start("")
        gateway = stack.enter_context(Gateway(UNLOGGED, workers=WORKERS))
        found = {"Upstreams": float(count), "Targets": float(count * TARGETS)}
        found |= _memory(gateway, "empty")
        since_s = time.perf_counter()
        load_file(gateway, _document(count, bench.options.size(WATCHED, QUICK_WATCHED), echo.port))
        found["stored and served, s"] = elapsed_ms(since_s) / 1e3
        found |= _memory(gateway, "loaded while running")
        gateway.end()
        since_s = time.perf_counter()
        gateway.spawn()
        gateway.wait_ready(PATIENCE_S)
        found["start with all of them, s"] = elapsed_ms(since_s) / 1e3
        found |= _memory(gateway, "started with them")
        watched = _watched(count, bench.options.size(WATCHED, QUICK_WATCHED))
        with one_each(gateway) as clients:
            quiet = [_changed(gateway, clients, change) for place in enumerate(watched) for change in _changes(*place, echo.port)]
            found |= _changes_told(quiet, "quiet")
            found |= _under_load(bench, gateway, clients, watched, echo.port)
        return found | _memory(gateway, "after all changes")


def _address(upstream: int, target: int) -> str:
    return f"127.{1 + (upstream >> 8)}.{upstream & 255}.{target + 1}"


def _watched(count: int, watched: int) -> list[int]:
    """Upstreams whose Targets will change, spread over all."""
    return [count * place // watched for place in range(watched)]


def _document(count: int, watched_count: int, port: int) -> dict[str, Any]:
    """All Upstreams; paths `/watched/<place>` and `/loaded/<place>` to some. Of a watched one the first Target has everything."""
    watched = _watched(count, watched_count)
    places = {f"watched/{place}": number for place, number in enumerate(watched)}
    rest = [number for number in range(count) if number not in set(watched)]
    places |= {f"loaded/{place}": rest[place * len(rest) // LOADED] for place in range(LOADED)}

    def weight(upstream: int, target: int) -> int:
        return 100 if target == 0 or upstream not in watched else 0

    return {
        "_format_version": "3.0",
        "upstreams": [
            {
                "name": f"up-{number}",
                "targets": [
                    {"target": f"{_address(number, target)}:{port}", "weight": weight(number, target)}
                    for target in range(TARGETS)
                ],
            }
            for number in range(count)
        ],
        "services": [
            {
                "name": path.replace("/", "-"),
                "url": f"http://up-{number}",
                "routes": [{"name": path.replace("/", "-"), "paths": [f"~/{path}$"], "strip_path": False}],
            }
            for path, number in places.items()
        ],
    }


def _memory(gateway: Gateway, when: str) -> dict[str, float]:
    # Whoever frees memory does so when idle.
    time.sleep(1)
    sizes = [processes.rss_bytes(pid) for pid in gateway.worker_pids()]
    peaks = [processes.peak_rss_bytes(pid) for pid in gateway.worker_pids()]
    found = {f"worker {number + 1} {when}, MiB": size / _MIB for number, size in enumerate(sorted(sizes))}
    return found | {
        f"largest peak of a worker {when}, MiB": max(peaks) / _MIB,
        f"control {when}, MiB": processes.rss_bytes(gateway.control_pid()) / _MIB,
    }


# Kind, call, path of the Route that shows it, the address that answers from then on.
_Change = tuple[str, Callable[[Gateway], object], str, str]


def _changes(place: int, upstream: int, port: int) -> list[_Change]:
    """Four changes of one Upstream: a weight up, the same down, a Target more, the same gone."""
    targets, path = f"/upstreams/up-{upstream}/targets", f"/watched/{place}"
    first, second, new = (_address(upstream, target) for target in (0, 1, TARGETS))
    return [
        ("PATCH weight", lambda gateway: gateway.admin.patch(f"{targets}/{second}:{port}", {"weight": ALL_OF_IT}), path, second),
        ("PATCH weight", lambda gateway: gateway.admin.patch(f"{targets}/{second}:{port}", {"weight": 0}), path, first),
        ("POST target", lambda gateway: gateway.admin.post(targets, {"target": f"{new}:{port}", "weight": ALL_OF_IT}), path, new),
        ("DELETE target", lambda gateway: gateway.admin.delete(f"{targets}/{new}:{port}"), path, first),
    ]


def _changed(gateway: Gateway, clients: list[Client], change: _Change) -> tuple[str, float, float]:
    """Make a change; its kind, milliseconds until the Admin API answered, and until each worker asked the other Target."""
    kind, call, path, address = change
    since_s = time.perf_counter()
    call(gateway)
    answered_ms = elapsed_ms(since_s)
    for client in clients:
        while _body(client, path) != address:
            assert elapsed_ms(since_s) < 10_000, f"{kind}: a worker does not use {address} after 10 s"
    return kind, answered_ms, elapsed_ms(since_s)


def _changes_told(changes: list[tuple[str, float, float]], when: str) -> dict[str, float]:
    after = [served - answered for _, answered, served in changes]
    found = {
        f"changes of one Target, {when}": float(len(changes)),
        f"{when}: answered → used by all workers, median ms": statistics.median(after),
        f"{when}: answered → used by all workers, largest ms": max(after),
        f"{when}: call → used by all workers, median ms": statistics.median(served for _, _, served in changes),
        f"{when}: call → used by all workers, largest ms": max(served for _, _, served in changes),
    }
    for kind in dict.fromkeys(kind for kind, _, _ in changes):
        found[f"{when}: {kind}, call → used by all workers, median ms"] = statistics.median(
            served for one, _, served in changes if one == kind
        )
    return found


def _under_load(bench: Bench, gateway: Gateway, clients: list[Client], watched: list[int], port: int) -> dict[str, float]:
    """Throughput through other Upstreams, with and without changes, in alternating rounds."""
    calm: list[Numbers] = []
    busy: list[Numbers] = []
    changes: list[tuple[str, float, float]] = []
    todo = [change for place in enumerate(watched) for change in _changes(*place, port)]
    for _ in range(bench.options.rounds):
        calm.append(_load(bench, gateway))
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(_load, bench, gateway)
            pause = threading.Event()
            while not load.done():
                changes.append(_changed(gateway, clients, todo[len(changes) % len(todo)]))
                pause.wait(1 / CHANGES_PER_S)
            busy.append(load.result())
    # A pass that was begun is ended: the weights are as they were.
    while len(changes) % 4:
        changes.append(_changed(gateway, clients, todo[len(changes) % len(todo)]))
    found = _changes_told(changes, "under load")
    return found | {
        "throughput without changes, req/s": statistics.median(one.requests / one.seconds for one in calm),
        "throughput with changes, ratio": statistics.median(
            (two.requests / two.seconds) / (one.requests / one.seconds) for one, two in zip(calm, busy, strict=True)
        ),
        "requests meanwhile": float(sum(one.requests for one in busy)),
        "failed": float(sum(one.errors for one in (*calm, *busy))),
    }


def _load(bench: Bench, gateway: Gateway) -> Numbers:
    url = f"http://{HOST}:{gateway.proxy_port}"
    seconds = bench.options.seconds
    return wrk(bench.folder, url, "/", connections=LOAD_CONNECTIONS, script="loaded", seconds=seconds, routes=LOADED)


# === hashing ===


def hashing(bench: Bench) -> dict[str, float]:
    """Which of the keys are sent elsewhere when an eleventh Target comes, of several Upstreams, asked through each worker."""
    keys = [f"key-{number}" for number in range(bench.options.size(KEYS, QUICK_KEYS))]
    with ExitStack() as stack:
        echo = Echo()
        stack.callback(echo.stop)
        echo.start("")
        gateway = stack.enter_context(Gateway(UNLOGGED, workers=WORKERS))
        for ring in range(bench.options.rounds):
            _ring(gateway, ring, echo.port)
        gateway.settle(PATIENCE_S)
        moves = [_moves(gateway, ring, echo.port, keys) for ring in range(bench.options.rounds)]
    ideal = 1 / MORE
    moved = [one.moved for one in moves]
    return {
        "Upstreams": float(len(moves)),
        "keys, each of them": float(len(keys)),
        "ideal, % of the keys": 100 * ideal,
        "moved, median %": 100 * statistics.median(moved),
        "moved, largest %": 100 * max(moved),
        "moved beyond the ideal, largest, % of the keys": 100 * (max(moved) - ideal),
        "moved, ratio to the ideal, median": statistics.median(moved) / ideal,
        "moved, ratio to the ideal, largest": max(moved) / ideal,
        "moved to another than the new Target, largest, % of the keys": 100 * max(one.elsewhere for one in moves),
        f"fullest of {FEW} Targets, ratio to its share": max(one.fullest for one in moves),
        f"emptiest of {FEW} Targets, ratio to its share": min(one.emptiest for one in moves),
    }


@dataclass
class _Moves:
    """Shares of an Upstream's keys; the fullest and the emptiest Target against a tenth of the keys, before the new one came."""

    moved: float
    elsewhere: float
    fullest: float
    emptiest: float


def _ring(gateway: Gateway, ring: int, port: int) -> None:
    """An Upstream of ten Targets, and a Route to it."""
    name = f"ring-{ring}"
    hash_on = {"algorithm": "consistent-hashing", "hash_on": "header", "hash_on_header": "x-key"}
    gateway.admin.post("/upstreams", {"name": name, **hash_on})
    gateway.admin.post("/services", {"name": name, "url": f"http://{name}"})
    gateway.admin.post(f"/services/{name}/routes", {"paths": [f"/{name}"]})
    for target in range(FEW):
        gateway.admin.post(f"/upstreams/{name}/targets", {"target": f"{_address(ring, target)}:{port}"})


def _moves(gateway: Gateway, ring: int, port: int, keys: list[str]) -> _Moves:
    """Ask with all keys, add a Target, ask again."""
    new = _address(ring, FEW)
    with one_each(gateway) as clients:
        before = _asked(clients, f"/ring-{ring}", keys)
        gateway.admin.post(f"/upstreams/ring-{ring}/targets", {"target": f"{new}:{port}"})
        gateway.settle(PATIENCE_S)
        after = _asked(clients, f"/ring-{ring}", keys)
    moved = [key for key in keys if before[key] != after[key]]
    elsewhere = [key for key in moved if after[key] != new]
    counts = Counter(before.values())
    shares = [counts[_address(ring, target)] * FEW / len(keys) for target in range(FEW)]
    say(f"  ring {ring}: moved {len(moved)} of {len(keys)}, of them {len(elsewhere)} not to the new Target")
    return _Moves(len(moved) / len(keys), len(elsewhere) / len(keys), max(shares), min(shares))


def _asked(clients: list[Client], path: str, keys: list[str]) -> dict[str, str]:
    """Which Target each key is sent to; every worker must say the same."""
    found, *others = ({key: _body(client, path, f"X-Key: {key}") for key in keys} for client in clients)
    for other in others:
        differing = [key for key in keys if found[key] != other[key]]
        assert not differing, f"{len(differing)} keys are sent elsewhere by another worker, such as {differing[0]}"
    return found
