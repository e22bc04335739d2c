# SPDX-License-Identifier: Apache-2.0
"""What do a million Consumers with keys cost a look-up, and a worker's memory?

They are stored by `pylae config db_import`, with the gateway down. Each target is asked with keys drawn at random from so many
of them: those that are in use again and again are in a worker's cache, of the others each is asked for in control.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any, Final

from bench.machine import rss_bytes
from bench.scenarios import Bench, LoadScenario, Sample, say
from bench.targets import HOST, Pylae, get
from tests.support.gateway import COMMAND, Gateway
from tests.support.wait import until

MANY: Final = 1_000_000
QUICK_MANY: Final = 2_000
FEW: Final = 100
IN_USE: Final = 50_000
"""Keys that a worker keeps: its cache holds 65,536."""
PATIENCE_S: Final = 3_600


class Stocked(Pylae):
    """A gateway whose database holds so many Consumers, each with a key."""

    def __init__(self, backend_port: int, count: int) -> None:
        super().__init__(backend_port)
        self.count = count

    def start(self, profile: str) -> None:
        """Fill the database, then start."""
        self.gateway = self.make(profile)
        self.gateway.start()
        file = self.folder / "document.json"
        file.write_text(json.dumps(document(self.backend_port, self.count)))
        _import(self.gateway, file)
        file.unlink()
        self.port = self.gateway.proxy_port
        self.gateway.settle(PATIENCE_S)
        # The command may have ended before the import did: it waits no longer than a client would.
        last = {"apikey": f"key-{self.count - 1}"}
        until(lambda: get(self.port, "/", last)[0] == 200, "all Consumers to be there", PATIENCE_S)
        self.check("room:key-auth")


def document(backend_port: int, count: int) -> dict[str, Any]:
    """A declarative configuration: one Route with key-auth, and the Consumers."""
    return {
        "_format_version": "3.0",
        "services": [
            {
                "name": "bench",
                "url": f"http://{HOST}:{backend_port}",
                "routes": [{"name": "all", "paths": ["/"], "strip_path": False, "request_buffering": False}],
                "plugins": [{"name": "key-auth"}],
            }
        ],
        "consumers": [
            {"id": _id(number), "username": f"c{number}", "keyauth_credentials": [{"key": f"key-{number}"}]}
            for number in range(count)
        ],
    }


def _id(number: int) -> str:
    return str(uuid.UUID(int=(4 << 76) | (2 << 62) | number))


def _import(gateway: Gateway, file: Path) -> None:
    run = subprocess.run(
        [COMMAND, "config", "db_import", str(file)],
        env={**os.environ, **gateway.environment()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if run.returncode and "Still importing" not in run.stderr:
        raise RuntimeError(f"db_import: {run.stdout[-500:]}{run.stderr[-500:]}")


def consumers(bench: Bench) -> tuple[dict[str, list[Sample]], dict[str, float]]:
    """Samples by how many Consumers there are and how many keys are in use, and the memory of worker and control after each."""
    many = bench.options.size(MANY, QUICK_MANY)
    in_use = bench.options.size(IN_USE, QUICK_MANY // 2)
    few, stocked = Stocked(bench.backend.port, FEW), Stocked(bench.backend.port, many)
    memory: dict[str, float] = {}
    try:
        few.start("plain")
        say(f"  storing {many:,} Consumers")
        stocked.start("plain")
        scenario = LoadScenario("consumers", "", "plain", 32, script="many_keys")
        found = bench.interleave_started(
            {
                f"{FEW} of {FEW}": (few, FEW),
                f"{FEW} of {many:,}": (stocked, FEW),
                f"{in_use:,} of {many:,}": (stocked, in_use),
            },
            scenario,
        )
        memory |= _memory(few, f"{FEW} Consumers")
        memory |= _memory(stocked, f"{many:,} Consumers, {in_use:,} keys in use")
        found |= bench.interleave_started({f"any of {many:,}": (stocked, many)}, scenario)
        memory |= _memory(stocked, f"{many:,} Consumers, any key in use")
    finally:
        few.stop()
        stocked.stop()
    return found, memory


def _memory(target: Pylae, when: str) -> dict[str, float]:
    gateway = target.gateway
    assert gateway
    (worker,) = gateway.worker_pids()
    return {
        f"worker with {when}, MiB": rss_bytes(worker) / 2**20,
        f"control with {when}, MiB": rss_bytes(gateway.control_pid()) / 2**20,
    }
