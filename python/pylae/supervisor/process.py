# SPDX-License-Identifier: Apache-2.0
"""What does the supervisor know of one process it started?"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pylae.errors import PylaeError

QUICK_DEATH_S: Final = 10.0
"""A process that died younger than this counts towards a crash loop."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
LOOP_DEATHS: Final = 3


class NotSpawned(PylaeError):
    """A process could not be started."""


@dataclass(eq=False)
class Child:
    """A running control or worker process.

    Attributes:
        label: for the log: `control process` or `worker process`.
        slot: worker slot, -1 for control.
        ready_fd: read end on which a worker tells once that it serves; -1 when it has, or never will.
        kill_at_s: when it is killed if it has not left by then (monotonic).
    """

    process: subprocess.Popen[bytes]
    label: str
    slot: int = -1
    generation: int = 0
    ready_fd: int = -1
    is_ready: bool = False
    is_leaving: bool = False
    kill_at_s: float | None = None
    started_at_s: float = field(default_factory=time.monotonic)

    def __repr__(self) -> str:
        return f"<{self.label} {self.process.pid} slot={self.slot} generation={self.generation}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Signals it, unless it has left."""
        self.process.send_signal(number)

    def leave(self, number: signal.Signals, within_s: float) -> None:
        """Asks it to go; it is killed when it has not gone by then."""
        self.is_leaving = True
        self.kill_at_s = time.monotonic() + within_s
        self.send(number)

    def close_ready(self) -> None:
        """Stops listening for its word."""
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1

    def how_it_ended(self) -> str:
        """In nginx's words."""
        code = self.process.returncode
        if code is None:
            return "runs"
        return f"exited on signal {-code}" if code < 0 else f"exited with code {code}"


class Restarts:
    """When may a process that died be started again? At once, unless it keeps dying young."""

    def __init__(self) -> None:
        self.deaths = 0
        self.due_at_s: float | None = None

    def note_death(self, age_s: float) -> float:
        """Counts one; the pause before the next start, in seconds."""
        self.deaths = self.deaths + 1 if age_s < QUICK_DEATH_S else 1
        pause_s = 0.0 if self.deaths == 1 else min(FIRST_PAUSE_S * 2 ** (self.deaths - 2), LONGEST_PAUSE_S)
        self.due_at_s = time.monotonic() + pause_s
        return pause_s

    @property
    def is_loop(self) -> bool:
        """Whether it died young several times in a row."""
        return self.deaths >= LOOP_DEATHS


def spawn(
    command: Sequence[str],
    pass_fds: Sequence[int],
    output_fd: int,
    user: str | int | None = None,
    group: str | int | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process that inherits just these descriptors.

    Raises:
        NotSpawned: the system would not.

    Args:
        command: program and arguments.
        pass_fds: what it inherits.
        output_fd: where its stdout and stderr go; -1: where ours go.
        user: who it becomes; `None`: who we are.
        group: likewise.
    """
    output = output_fd if output_fd >= 0 else None
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            # Its own group: an interrupt typed at a terminal reaches the supervisor alone, which then ends the others.
            process_group=0,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
        )
    except OSError as error:
        who = "" if user is None else f" as user {user}"
        raise NotSpawned(f"`{' '.join(command[:4])}` can't be started{who}: {error}") from error
