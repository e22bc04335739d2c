# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: which figures does this machine give today?"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import admin, consumers, handshakes, killing, many_routes, names, report, scenarios, upstreams
from bench.scenarios import LOADS, Bench, Options, say
from bench.targets import PEERS, Pylae, Target

FAILED = "failed: "
RESULTS = Path(__file__).parent / "results"
SPECIAL = (
    *("routes", "stall", "rooms", "config", "mem", "start", "sync", "push", "pushmem"),
    *("upstreams", "hashing", "kill", "dns", "consumers", "mtls"),
)
UPSTREAMS_REACH = {
    **{
        f"worker {worker + 1} {when}, MiB": "≤ 200"
        for worker in range(upstreams.WORKERS)
        for when in ("loaded while running", "started with them", "after all changes")
    },
    "quiet: answered → used by all workers, median ms": "≤ 20",
    "under load: answered → used by all workers, median ms": "≤ 20",
    "failed": "0",
}
KILL_REACH = {
    "failed requests": "0",
    "out of rotation after the kill, largest ms": f"≤ {killing.PROBE_INTERVAL_S * 1e3:g}",
}
QUICK = {"rounds": 1, "seconds": 1, "idle": 100, "routes": 100}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = [*(load.name for load in LOADS), *SPECIAL]
    parser.add_argument("--scenarios", default=",".join(known), help="of: " + ",".join(known))
    parser.add_argument("--targets", default=",".join(PEERS), help="of: " + ",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of a round")
    parser.add_argument("--idle", type=int, default=5000, help="idle connections in `mem`")
    parser.add_argument(
        "--routes", type=int, default=scenarios.MANY_ROUTES, help="Routes in `routes` (and ten times as many), `stall` and `sync`"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a little of everything: shows that a scenario works, measures nothing"
    )
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    chosen = parser.parse_args()
    unknown = (set(chosen.scenarios.split(",")) - set(known)) | (set(chosen.targets.split(",")) - set(PEERS))
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return chosen


def peers(names: list[str]) -> list[type[Target]]:
    """Those that can run here; nginx is always among them."""
    found: list[type[Target]] = []
    for name, peer in PEERS.items():
        if name not in names and name != scenarios.REFERENCE:
            continue
        why = peer.absent()
        if why is None:
            found.append(peer)
        elif name == scenarios.REFERENCE:
            raise SystemExit(f"{why}: every figure is a ratio to it (apt-get install nginx)")
        else:
            say(f"left out: {name}: {why}")
    return found


def main() -> None:
    """Measure, write the table under results/, print it."""
    chosen = arguments()
    scenarios.prepare()
    options = Options(chosen.rounds, chosen.seconds, chosen.idle, chosen.routes, chosen.quick)
    bench = Bench(options, peers(chosen.targets.split(",")))
    wanted = chosen.scenarios.split(",")
    parts: list[str] = []
    bench.backend.start("plain")
    try:
        for load in LOADS:
            if load.name in wanted:
                _part(parts, load.name, partial(_load, bench, load))
        if Pylae in bench.peers:
            for name, make in _ours(bench).items():
                if name in wanted:
                    _part(parts, name, make)
        if "mem" in wanted:
            _part(parts, "mem", lambda: _memory(bench))
    finally:
        bench.backend.stop()
        shutil.rmtree(bench.folder, ignore_errors=True)
    head = report.head(options.rounds, options.seconds, counts_instructions=bench.counts_instructions, is_quick=options.is_quick)
    text = "\n\n".join([head, *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / time.strftime("%Y%m%d-%H%M%S.md", time.gmtime())
    file.write_text(text)
    sys.stdout.write(text)
    say(f"written to {file}")
    if any(FAILED in part for part in parts):
        raise SystemExit("some of it failed")


def _part(parts: list[str], name: str, make: Callable[[], str]) -> None:
    """One scenario; one that fails is told and does not take the others with it."""
    say(f"[{name}]")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            parts.append(make())
        except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            say(f"{FAILED}{error!r}")
            parts.append(f"### {name}\n\n{FAILED}{error}")


def _load(bench: Bench, load: scenarios.LoadScenario) -> str:
    return report.loads(f"{load.name}: {load.title}", bench.run(load), scenarios.REFERENCE)


def _ours(bench: Bench) -> dict[str, Callable[[], str]]:
    return {
        "routes": lambda: _routes(bench),
        "stall": lambda: _stall(bench),
        "rooms": lambda: report.loads("rooms: what one thing more costs, ourselves", bench.run_rooms(), "plain"),
        "config": lambda: report.figures(
            f"config: {scenarios.CONFIG_ROUTES:,} Routes loaded, two workers", {"pylae": scenarios.config(bench)}
        ),
        "sync": lambda: report.figures(
            f"sync: {bench.options.routes:,} Routes, as many Consumers with a key, one client", {"pylae": admin.sync(bench)}
        ),
        "push": lambda: report.figures(
            "push: POST /config under traffic, one worker pinned, control nice 10 on the other core",
            {"pylae": admin.push(bench)},
        ),
        "pushmem": lambda: report.figures("pushmem: memory after many POST /config", {"pylae": admin.memory(bench)}),
        "upstreams": lambda: report.figures(
            f"upstreams: {upstreams.TARGETS} Targets each, two workers", {"pylae": upstreams.upstreams(bench)}, UPSTREAMS_REACH
        ),
        "hashing": lambda: report.figures(
            f"hashing: {upstreams.FEW} → {upstreams.MORE} Targets, through each of two workers",
            {"pylae": upstreams.hashing(bench)},
            {"moved beyond the ideal, largest, % of the keys": "≤ 10"},
        ),
        "kill": lambda: report.figures(
            f"kill: SIGKILL to one of {killing.ORIGINS} origins under GETs, c={killing.CONNECTIONS}, probes every "
            f"{killing.PROBE_INTERVAL_S:g} s",
            killing.kill(bench),
            KILL_REACH,
        ),
        "dns": lambda: report.figures(
            f"dns: a name server that answers after {names.SERVER_DELAY_MS} ms, {names.PACE_PER_S} requests a second",
            names.dns(bench),
            {f"requests of {names.WAITED_MS:g} ms and more": "0", "p99, ratio to TTL 1 h": "1 within the noise"},
        ),
        "consumers": lambda: _consumers(bench),
        "mtls": lambda: report.figures(
            "mtls: TLS 1.3 handshakes with a client certificate, ECDSA P-256",
            handshakes.handshakes(bench),
            {"x nginx, median of the rounds": "≤ 1.3"},
        ),
        "start": lambda: report.figures("start: one Route, migrated database", {"pylae": scenarios.start(bench)}),
    }


def _consumers(bench: Bench) -> str:
    samples, memory = consumers.consumers(bench)
    title = "consumers: key-auth, keys in use of Consumers in the database, ourselves"
    return "\n\n".join(
        (report.loads(title, samples, next(iter(samples))), report.figures("consumers: memory", {"pylae": memory}))
    )


def _routes(bench: Bench) -> str:
    return "\n\n".join(
        report.loads(
            f"routes: {flavour}, many Routes against one, ourselves", many_routes.routes(bench, flavour), many_routes.ONE_ROUTE
        )
        for flavour in many_routes.FLAVOURS
    )


def _stall(bench: Bench) -> str:
    return report.figures(
        f"stall: {many_routes.SWAPS_PER_S} Routes added a second, {many_routes.PACE_PER_S} requests a second, one worker pinned",
        {flavour: many_routes.stall(bench, flavour) for flavour in many_routes.FLAVOURS},
        {"the same, longer by, median of the rounds, ms": "≤ 5"},
    )


def _memory(bench: Bench) -> str:
    found = {peer.name: scenarios.memory(bench, peer) for peer in bench.peers}
    return report.figures(f"mem: {bench.options.idle:,} idle connections", found)


if __name__ == "__main__":
    main()
