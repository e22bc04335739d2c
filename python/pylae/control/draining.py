# SPDX-License-Identifier: Apache-2.0
"""Was this node told that it is going?

That belongs to one start or reload of the gateway: a file keeps it over the death of this process, and the next start
or reload begins without.
"""

from __future__ import annotations

from pathlib import Path

from pylae.control.line import Log


class Draining:
    """Whether the node tells load balancers that it is going.

    Args:
        path: of the file that keeps it.
        run: names this start or reload; what another one was told is not meant.
        log: takes lines for the error log.
    """

    def __init__(self, path: Path, run: str, log: Log) -> None:
        self._path = path
        self._run = run
        self._log = log
        self.has_begun = self._load()

    def __repr__(self) -> str:
        return f"<draining {self.has_begun}>"

    def begin(self) -> None:
        """From now on it is going."""
        self.has_begun = True
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(self._run, encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            self._log("error", f"that this node is draining could not be kept: {error}")

    def _load(self) -> bool:
        try:
            return self._path.read_bytes() == self._run.encode()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._log("warn", f"whether this node is draining could not be read: {error}")
            return False
