# SPDX-License-Identifier: Apache-2.0
"""Which refusals of a client are worth a line in the log, so that an attack cannot fill it?"""

from __future__ import annotations

import asyncio
from typing import Final

from pylae.control.line import Log

WINDOW_S: Final = 10.0
MAX_LINES: Final = 10
"""Lines in one window: one for each address, those of further addresses are only counted."""


class Refusals:
    """Logs refusals with the client's address; what goes over the bounds of a window is counted, and told at its end."""

    def __init__(self, log: Log, window_s: float = WINDOW_S) -> None:
        self._log = log
        self._window_s = window_s
        self._told: set[str] = set()
        self._untold_count = 0

    def __repr__(self) -> str:
        return f"<refusals told={len(self._told)} untold={self._untold_count}>"

    def note(self, address: str, reason: str) -> None:
        """Takes one refusal, on the event loop."""
        if not self._told:
            asyncio.get_running_loop().call_later(self._window_s, self._end_window)
        if address in self._told or len(self._told) >= MAX_LINES:
            self._untold_count += 1
            return
        self._told.add(address)
        self._log("warn", f"{reason}, client: {address}")

    def _end_window(self) -> None:
        if self._untold_count:
            self._log("warn", f"{self._untold_count} more refusals of the Admin API in the last {self._window_s:g} s")
        self._told.clear()
        self._untold_count = 0
