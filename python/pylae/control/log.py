# SPDX-License-Identifier: Apache-2.0
"""How does control write a line that reads like the others in `error.log`?"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from pylae.control.redaction import redacted

_ONE_LINE: Final = {code: f"\\x{code:02X}" for code in (*range(32), 127)}
"""What a client sent must not begin a line of its own."""
LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")


class LogFile:
    """A file that lines are appended to; a full disk loses lines, never the process.

    Args:
        path: of the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor = -1
        self.reopen()

    def __repr__(self) -> str:
        return f"<log file {self._path}>"

    def reopen(self) -> None:
        """Opens the file anew: it was moved away."""
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def write(self, line: str) -> None:
        """Appends one line."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, f"{line}\n".encode(errors="replace"))
        except OSError:
            return


class ErrorLog:
    """Lines in nginx's form, from a severity on."""

    def __init__(self, file: LogFile, level: str = "notice") -> None:
        self.file = file
        self._lowest = LEVELS.index(level)

    def __repr__(self) -> str:
        return f"<error log {self.file!r} from {LEVELS[self._lowest]}>"

    @property
    def level(self) -> str:
        """The lowest severity that is written."""
        return LEVELS[self._lowest]

    @level.setter
    def level(self, level: str) -> None:
        self._lowest = LEVELS.index(level)

    def is_shown(self, level: str) -> bool:
        """Whether lines of a level are written."""
        return LEVELS.index(level) >= self._lowest

    def __call__(self, level: str, text: str) -> None:
        """Writes one line, unless its level is below ours."""
        if self.is_shown(level):
            stamp = time.strftime("%Y/%m/%d %H:%M:%S")
            self.file.write(f"{stamp} [{level}] {os.getpid()}#0: {redacted(text).translate(_ONE_LINE)}")
