# SPDX-License-Identifier: Apache-2.0
"""How far is a long command? Said on a terminal only, and only when it takes a while."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Final, Self, TextIO

SHOWN_AFTER_S: Final = 0.5
EVERY_S: Final = 0.1
_WIDTH: Final = 30


class Bar:
    """A line on a terminal that fills up, and is gone when the work is done.

    Args:
        what: is being done.
        stream: where it is said.
    """

    def __init__(self, what: str, stream: TextIO = sys.stderr) -> None:
        self._what = what
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._next_s = time.monotonic() + SHOWN_AFTER_S
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def show(self, done: int, total: int) -> None:
        """Says how far it is, not more often than one can read."""
        now_s = time.monotonic()
        if not self._is_terminal or now_s < self._next_s or not total:
            return
        self._next_s = now_s + EVERY_S
        self._is_shown = True
        filled = _WIDTH * done // total
        line = f"{self._what} {'━' * filled}{'╌' * (_WIDTH - filled)} {100 * done // total:3d} % {done} of {total}"
        self._stream.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        """Takes the line away, so that others may write there."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False
