# SPDX-License-Identifier: Apache-2.0
"""How does a module of the bench run as a process of its own, so that it neither waits for ours nor makes it wait?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.machine import LOAD_CORE, pinned
from tests.support import processes

ROOT = Path(__file__).parent.parent
READY = "ready"


class Child:
    """`python -m bench.<module>`, on the load's core."""

    module = ""

    def __init__(self, *arguments: object) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it, and wait until it says that it is ready.

        Raises:
            RuntimeError: it ended instead.
        """
        command = pinned(LOAD_CORE, [sys.executable, "-m", f"bench.{self.module}", *self.arguments])
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        if line != READY:
            raise RuntimeError(f"bench.{self.module} {' '.join(self.arguments)}: {line or 'ended before it was ready'}")
        return self

    def finish(self, within_s: float) -> Any:
        """Wait until it ends by itself; what it said last, decoded.

        Raises:
            RuntimeError: it failed.
        """
        assert self.process
        output, _ = self.process.communicate(timeout=within_s)
        if self.process.returncode:
            raise RuntimeError(f"bench.{self.module} {' '.join(self.arguments)}: exit {self.process.returncode}: {output[-500:]}")
        self.process = None
        return json.loads(output)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal it and wait until it is gone."""
        if self.process:
            processes.send(self.process.pid, number)
            self.process.communicate(timeout=10)
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
