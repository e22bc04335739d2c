# SPDX-License-Identifier: Apache-2.0
"""How is a request walked through plugins again without harm to whoever asks?

In a process of its own, which is killed when it does not come to an end: a plugin may block, crash or end the process
as it likes. Whoever must not wait calls `replay` in a thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Final, Literal

import msgspec

from pylae.doctor.replay.guard import waited_s
from pylae.doctor.replay.order import Member, Order, Report, Run, Trouble

COMMAND: Final = (sys.executable, "-P", "-B", "-m", "pylae.doctor.replay.child")
MOST_S: Final = 5.0
FIRST_LOOK_RATIO: Final = 0.7
"""Of the time there is; the rest is for a second look at a plugin that could not be interrupted."""
LAST_WORDS_S: Final = 0.5
"""For what a killed process had written already."""


@dataclass(frozen=True)
class End:
    """A process that did not come to its end.

    Attributes:
        position: of the plugin it was in; None when it was in none.
    """

    kind: Literal["blocked", "died"]
    position: int | None
    phase: str
    is_busy: bool


def replay(order: Order, *, most_s: float = MOST_S) -> Report:
    """Carries an order out; takes so many seconds at the most.

    Returns:
        What is known of it by then; `stage` says how much that is.
    """
    started_s = time.monotonic()
    report, end = _carry_out(order, most_s * FIRST_LOOK_RATIO)
    report.is_busy = end is not None and end.is_busy
    if end is None or report.whole is not None:
        # What is known stands, also when some smaller chain did not come to an end.
        return report
    if not report.members:
        report.members = [Member(index, one.name, one.id, "not_run", "not reached") for index, one in enumerate(order.plugins)]
    if end.position is None or end.is_busy:
        return report
    report.whole = Run(Trouble(end.kind, end.position, end.phase, "no end" if end.kind == "blocked" else "no process"))
    report.stage = "whole"
    others = [member for member in report.members if member.mode == "run" and member.position != end.position]
    is_alone = not others or end.phase == "load" or _fails_alone(order, end, most_s - (time.monotonic() - started_s))
    if is_alone:
        report.smallest, report.is_smallest, report.stage = [end.position], True, "smallest"
    return report


def _fails_alone(order: Order, end: End, left_s: float) -> bool:
    """Whether the plugin does the same with no other before it."""
    if end.kind == "blocked" and left_s <= order.hook_limit_s:
        return False
    _, again = _carry_out(msgspec.structs.replace(order, only=[end.position]), left_s)
    return again == end


def _carry_out(order: Order, limit_s: float) -> tuple[Report, End | None]:
    """The last that a process said of an order, and how it ended, unless it did so by itself."""
    with TemporaryFile() as standing:
        process = subprocess.Popen(
            [*COMMAND, str(standing.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[standing.fileno()],
            # A group of its own: what a plugin may have started ends with it.
            start_new_session=True,
        )
        started_s = time.monotonic()
        kind: Literal["blocked", "died"] = "died"
        is_busy = False
        try:
            said, _ = process.communicate(msgspec.json.encode(order), limit_s)
        except subprocess.TimeoutExpired:
            kind = "blocked"
            # It wanted to run for most of the time, and there was no core.
            is_busy = waited_s(process.pid) > (time.monotonic() - started_s) / 2
            said = b""
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                said, _ = process.communicate(timeout=LAST_WORDS_S)
        finally:
            if process.poll() is None:
                process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            process.wait()
        report = _last_report(said)
        if process.returncode == 0 and report.stage == "done":
            return report, None
        position, phase = _standing_in(os.pread(standing.fileno(), 64, 0))
        return report, End(kind, position if _is_of(order, position) else None, phase, is_busy)


def _last_report(said: bytes) -> Report:
    """The last whole line; a plugin that found the pipe may have written others."""
    for line in reversed(said.splitlines(keepends=True)):
        if line.endswith(b"\n"):
            with suppress(msgspec.MsgspecError):
                return msgspec.json.decode(line, type=Report)
    return Report()


def _standing_in(told: bytes) -> tuple[int | None, str]:
    position, _, phase = told.decode("ascii", "replace").strip().partition(" ")
    return (int(position) if position.isdecimal() else None), phase


def _is_of(order: Order, position: int | None) -> bool:
    return position is not None and position < len(order.plugins)
