# SPDX-License-Identifier: Apache-2.0
"""What do the processes that a test started look like from outside, and how do they end?"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.support.wait import until


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Living direct children of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if is_alive(child)]


def tree(pid: int) -> list[int]:
    """The process and its living descendants, parents first."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop(0)
        if is_alive(current):
            found.append(current)
            todo += children(current)
    return found


def command_line(pid: int) -> str:
    """The arguments of a process, joined by spaces; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_rss_bytes(pid: int) -> int:
    """Largest resident memory of one process since `reset_peak_rss`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak_rss(pid: int) -> None:
    """Begin a new measurement of the peak."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process point at: `socket:[n]`, paths."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Signal one process by its pid; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stop_tree(pid: int, within_s: float) -> None:
    """TERM to the root; whatever is left of its tree after `within_s` is killed, each by its own pid."""
    members = tree(pid)
    send(pid, signal.SIGTERM)
    with contextlib.suppress(AssertionError):
        until(lambda: not any(map(is_alive, members)), "the tree to end", within_s)
        return
    for member in set(members) | set(tree(pid)):
        send(member, signal.SIGKILL)
    until(lambda: not any(map(is_alive, members)), "killed processes to end")
