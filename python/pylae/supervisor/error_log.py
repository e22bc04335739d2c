# SPDX-License-Identifier: Apache-2.0
"""How does the supervisor write a line that reads like the others in `error.log`?"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")


class ErrorLog:
    """Appends lines in nginx's form; a full disk loses lines, never the process.

    Attributes:
        path: of the file; relative paths are resolved by whoever makes this.
        level: lowest severity that is written.
    """

    def __init__(self, path: Path, level: str = "notice") -> None:
        self.path = path
        self.level = level
        self._descriptor = -1
        self.reopen()

    def __repr__(self) -> str:
        return f"<error log {self.path} from {self.level}>"

    def reopen(self) -> None:
        """Opens the file anew: it was moved away, or its path has changed."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def size_bytes(self) -> int:
        """How long the file is now; 0 when nobody can say."""
        try:
            return os.fstat(self._descriptor).st_size
        except OSError:
            return 0

    def written_since(self, offset_bytes: int) -> list[str]:
        """The lines written after the file had this length."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset_bytes)
                return file.read(1 << 20).decode(errors="replace").splitlines()
        except OSError:
            return []

    def descriptor(self) -> int:
        """Where children write what they can't log otherwise; -1 when the file can't be opened."""
        return self._descriptor

    def log(self, level: str, message: str) -> None:
        """Writes one line, unless its level is below ours."""
        if LEVELS.index(level) < LEVELS.index(self.level):
            return
        stamp = time.strftime("%Y/%m/%d %H:%M:%S")
        try:
            os.write(self._descriptor, f"{stamp} [{level}] {os.getpid()}#0: {message}\n".encode(errors="replace"))
        except OSError:
            return
