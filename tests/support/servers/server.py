# SPDX-License-Identifier: Apache-2.0
"""How does a server of other people's start under a configuration of its own, and end by its own pid?"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import processes
from tests.support.wait import until

# Debian keeps these out of an ordinary user's PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find(program: str) -> str | None:
    """Where a program is installed, if it is."""
    return shutil.which(program) or shutil.which(program, path=SYSTEM_PATH)


def accepts(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A foreground process with its own folder."""

    def __init__(self, program: str, ports: list[int]) -> None:
        found = find(program)
        assert found, f"{program} is not installed (scripts/ lists the packages)"
        self.program, self.ports = found, ports
        self.folder = Path(tempfile.mkdtemp(prefix=f"pylae-{Path(program).name}-"))
        self.folder.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        """What follows the program's name."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until every port accepts."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, *self.arguments()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until(self._is_ready, f"{self.program} to listen on {self.ports}: {self.output()}")

    def _is_ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"{self.program} ended: {self.output()}"
        return all(map(accepts, self.ports))

    def output(self) -> str:
        """What it wrote to stdout and stderr so far."""
        return (self.folder / "output").read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it and forget its folder."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """End it and start it again on the same ports."""
        self._end()
        self.start()

    def _end(self) -> None:
        if self.process:
            processes.stop_tree(self.process.pid, within_s=5)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
