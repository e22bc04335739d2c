# SPDX-License-Identifier: Apache-2.0
"""What did a process tree use of the machine, and what did others use meanwhile?"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import processes

PROXY_CORE, LOAD_CORE = 1, 0
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find(program: str) -> str | None:
    """Where a program is installed, if it is."""
    return shutil.which(program) or shutil.which(program, path=SYSTEM_PATH)


def pinned(core: int, arguments: list[str]) -> list[str]:
    """The command line that runs on one core only, children included."""
    taskset = find("taskset")
    assert taskset, "taskset is not installed (util-linux)"
    return [taskset, "-c", str(core), *arguments]


def cpu_us(root: int) -> float:
    """CPU time of the tree's living threads so far: nanosecond resolution, the kernel's work for them included."""
    total_ns = 0
    for pid in processes.tree(root):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError, IndexError):
                    total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1000


def rss_bytes(root: int) -> int:
    """Resident memory of the tree; pages that processes share count once for each."""
    total = 0
    for pid in processes.tree(root):
        with contextlib.suppress(OSError):
            total += processes.rss_bytes(pid)
    return total


def busy_us() -> list[float]:
    """Busy time of every core since boot."""
    tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
    found = []
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0].startswith("cpu") and words[0] != "cpu":
            user, nice, system, _, _, interrupt, soft = map(int, words[1:8])
            found.append((user + nice + system + interrupt + soft) * tick_us)
    return found


@dataclass
class Counter:
    """`perf stat` on living processes, where the kernel and the hardware allow it."""

    process: subprocess.Popen[str] | None

    @classmethod
    def attach(cls, root: int) -> Counter:
        """Begin to count user instructions of the tree."""
        perf = find("perf")
        if not perf:
            return cls(None)
        pids = ",".join(map(str, processes.tree(root)))
        return cls(
            subprocess.Popen(
                [perf, "stat", "-x", ",", "-e", "instructions:u", "-p", pids],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def read(self) -> float | None:
        """Instructions since `attach`; None where they cannot be counted."""
        if self.process is None:
            return None
        self.process.send_signal(2)
        _, output = self.process.communicate(timeout=10)
        for line in output.splitlines():
            value, *rest = line.split(",")
            if "instructions:u" in rest and value.isdigit():
                return float(value)
        return None
