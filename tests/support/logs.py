# SPDX-License-Identifier: Apache-2.0
"""What did the gateway write into a log since the test began to look?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.transcripts import is_grave
from tests.support.wait import until


class Log:
    """A log file read from a mark on; complete lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark_bytes = 0

    def mark(self) -> None:
        """From now on only what is written later counts."""
        self._mark_bytes = self.path.stat().st_size if self.path.exists() else 0

    def lines(self) -> list[str]:
        """Lines since the mark."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._mark_bytes)
            complete, _, _ = file.read().rpartition(b"\n")
        return [line.decode("utf-8", "replace") for line in complete.split(b"\n") if line]

    def grave_lines(self) -> list[str]:
        """Lines since the mark that say a request was lost (level error and above)."""
        return [line for line in self.lines() if is_grave(line)]

    def containing(self, text: str) -> list[str]:
        """Lines since the mark that hold the text."""
        return [line for line in self.lines() if text in line]

    def wait_for(self, text: str, count: int = 1, within_s: float = 5.0) -> list[str]:
        """Wait until so many lines hold the text, and return them."""
        return self.wait(lambda lines: len(lines) >= count, text, within_s)

    def wait(self, enough: Callable[[list[str]], bool], text: str = "", within_s: float = 5.0) -> list[str]:
        """Wait until the lines that hold the text satisfy the caller, and return them."""

        def found() -> list[str] | None:
            lines = self.containing(text)
            return lines if enough(lines) else None

        try:
            return until(found, f"{text!r} in {self.path}", within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it holds: {self.lines()[-20:]}") from None

    def records(self) -> list[dict[str, Any]]:
        """Lines since the mark as JSON objects."""
        return [json.loads(line) for line in self.lines()]

    def tail(self, count: int = 60) -> str:
        """The newest lines, whatever the mark."""
        if not self.path.exists():
            return ""
        return "\n".join(self.path.read_text(errors="replace").splitlines()[-count:])
