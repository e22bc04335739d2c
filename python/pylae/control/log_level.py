# SPDX-License-Identifier: Apache-2.0
"""From which severity on do control and the workers write, and until when?"""

from __future__ import annotations

import asyncio
from typing import Final

from pylae.control.frames import message
from pylae.control.line import LineServer
from pylae.control.log import LEVELS, ErrorLog

DEFAULT_TIMEOUT_S: Final = 60
MAX_TIMEOUT_S: Final = 86_400 * 365


class LogLevel:
    """The level of this process and its workers, which may be changed for a while.

    Args:
        log: this process' own.
        line: to the workers.
    """

    def __init__(self, log: ErrorLog, line: LineServer) -> None:
        self._log = log
        self._line = line
        self._configured = log.level
        self._end: asyncio.TimerHandle | None = None
        line.greet_with(self._message)

    def __repr__(self) -> str:
        return f"<log level {self.level}>"

    @property
    def level(self) -> str:
        """The lowest severity that is written now."""
        return self._log.level

    def change(self, level: str, timeout_s: float) -> None:
        """Writes from this severity on.

        Args:
            level: one of `LEVELS`.
            timeout_s: until the configured level holds again; 0 for as long as the process lives.
        """
        self._stop_timer()
        self._set(level)
        if timeout_s > 0:
            self._end = asyncio.get_running_loop().call_later(min(timeout_s, MAX_TIMEOUT_S), self._restore)

    def _restore(self) -> None:
        self._end = None
        self._set(self._configured)

    def _set(self, level: str) -> None:
        before = self._log.level
        # At the more talkative of both, so that the log itself tells where it begins and ends.
        self._log.level = min(level, before, key=LEVELS.index)
        self._log("notice", f"log level changed from {before} to {level}")
        self._log.level = level
        self._line.tell(self._message())

    def _message(self) -> bytes:
        return message("log_level", self._log.level)

    def _stop_timer(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
