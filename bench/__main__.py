# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: which figures does this machine give today?"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import admin, report, scenarios
from bench.scenarios import LOADS, Bench, Options, say
from bench.targets import PEERS, Pylae, Target

RESULTS = Path(__file__).parent / "results"
SPECIAL = ("routes", "rooms", "config", "mem", "start", "sync", "push", "pushmem")
PUSHED_ROUTES = 50_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [*(load.name for load in LOADS), *SPECIAL]
    parser.add_argument("--scenarios", default=",".join(names), help="of: " + ",".join(names))
    parser.add_argument("--targets", default=",".join(PEERS), help="of: " + ",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of a round")
    parser.add_argument("--idle", type=int, default=5000, help="idle connections in `mem`")
    parser.add_argument("--routes", type=int, default=scenarios.MANY_ROUTES, help="Routes in `routes` and in swaps")
    chosen = parser.parse_args()
    unknown = (set(chosen.scenarios.split(",")) - set(names)) | (set(chosen.targets.split(",")) - set(PEERS))
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
    options = Options(chosen.rounds, chosen.seconds, chosen.idle, chosen.routes)
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
    head = report.head(options.rounds, options.seconds, counts_instructions=bench.counts_instructions)
    text = "\n\n".join([head, *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / time.strftime("%Y%m%d-%H%M%S.md", time.gmtime())
    file.write_text(text)
    sys.stdout.write(text)
    say(f"written to {file}")


def _part(parts: list[str], name: str, make: Callable[[], str]) -> None:
    """One scenario; one that fails is told and does not take the others with it."""
    say(f"[{name}]")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            parts.append(make())
        except (AssertionError, RuntimeError, OSError) as error:
            parts.append(f"### {name}\n\nfailed: {error}")


def _load(bench: Bench, load: scenarios.LoadScenario) -> str:
    return report.loads(f"{load.name}: {load.title}", bench.run(load), scenarios.REFERENCE)


def _ours(bench: Bench) -> dict[str, Callable[[], str]]:
    return {
        "routes": lambda: report.loads("routes: many Routes against one, ourselves", bench.run_routes(), "pylae, 1 route"),
        "rooms": lambda: report.loads("rooms: what one thing more costs, ourselves", bench.run_rooms(), "plain"),
        "config": lambda: report.figures(
            f"config: {scenarios.CONFIG_ROUTES:,} Routes loaded, two workers", {"pylae": scenarios.config(bench)}
        ),
        "sync": lambda: report.figures(
            f"sync: {bench.options.routes:,} Routes, as many Consumers with a key, one client", {"pylae": admin.sync(bench)}
        ),
        "push": lambda: report.figures(
            "push: POST /config under traffic, one worker pinned, control nice 10 on the other core",
            {"pylae": admin.push(bench, PUSHED_ROUTES)},
        ),
        "pushmem": lambda: report.figures("pushmem: memory after many POST /config", {"pylae": admin.memory(bench)}),
        "start": lambda: report.figures("start: one Route, migrated database", {"pylae": scenarios.start(bench)}),
    }


def _memory(bench: Bench) -> str:
    found = {peer.name: scenarios.memory(bench, peer) for peer in bench.peers}
    return report.figures(f"mem: {bench.options.idle:,} idle connections", found)


if __name__ == "__main__":
    main()
