# SPDX-License-Identifier: Apache-2.0
"""How is a phase stopped that does not return?

A timer ticks while plugins run. It counts the time a phase had, whether it computed or slept, and not the time for which
the machine had no core for this process: a busy machine makes no plugin a blocking one.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, Self

from pylae.doctor.replay.watching import Stopped, Watch

TICK_S: Final = 0.05


class TookTooLong(Stopped):
    """A phase had all the time it may have.

    Attributes:
        position: of the plugin.
    """

    def __init__(self, position: int, phase: str) -> None:
        super().__init__(position, phase)
        self.position = position
        self.phase = phase


def waited_s(pid: int | str = "self") -> float:
    """For how long a process wanted to run and no core was free; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat", "rb") as file:  # noqa: PTH123 - read in a signal handler
        return int(file.read().split()[1]) / 1e9
    return 0.0


class Guard:
    """Stops phases after a time; for the main thread.

    Attributes:
        limit_s: how long one may take.
    """

    def __init__(self, watch: Watch, limit_s: float) -> None:
        self.limit_s = limit_s
        self._watch = watch
        self._began_s = 0.0
        self._ticked_s = 0.0
        self._waited_s = 0.0
        self._base_s = 0.0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def begin(self) -> None:
        """A phase begins."""
        self._began_s = time.monotonic()

    def _tick(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        waited = waited_s()
        now = time.monotonic()
        if self._watch.position is None:
            self._waited_s = waited
            return
        if self._began_s > self._ticked_s:
            # The first tick of this phase: what was waited for before it is not its own, save for a tick at most.
            self._base_s = self._waited_s
        self._waited_s = waited
        self._ticked_s = now
        if now - self._began_s - (waited - self._base_s) > self.limit_s:
            raise TookTooLong(self._watch.position, self._watch.phase)
