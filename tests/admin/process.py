# SPDX-License-Identifier: Apache-2.0
"""How does a test get a control process of its own, without supervisor and workers?"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pylae import _core
from pylae.settings import Settings
from tests.support.admin import Admin
from tests.support.wait import until

FOLDERS = ("pids", "logs", "sockets", "ssl", "spool")


class ControlProcess:
    """`python -m pylae.admin` on sockets that this test opened, as the supervisor would start it.

    Args:
        folder: becomes the prefix; a second process of the same folder finds the first's database.
        settings: Kong's names, lower case.
        file_size_bytes: a limit that stands for a full disk.
        admin_flags: such as `ssl`, of the Admin API's listener.
        health_slots: addresses of Targets that the health table has room for.

    Attributes:
        generation: grows with every reload.
        shared: the segment that it shares with workers.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        file_size_bytes: int | None = None,
        admin_flags: Sequence[str] = (),
        health_slots: int = 1024,
    ) -> None:
        self.prefix = folder
        self.generation = 1
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.admin_port, self.status_port = (one.getsockname()[1] for one in self._sockets)
        overrides = {
            "database": "sqlite",
            "admin_listen": f"127.0.0.1:{self.admin_port}",
            "status_listen": f"127.0.0.1:{self.status_port}",
            **(settings or {}),
        }
        # Secrets are in the environment of the process alone.
        Settings.load(prefix=folder, environ={}, overrides=overrides, resolves=False).write_env(folder / ".kong_env")
        self.admin, self.status = Admin(self.admin_port), Admin(self.status_port)
        self._file_size_bytes = file_size_bytes
        self._flags = {"admin": list(admin_flags), "status": []}
        self._parent_fd, self._our_life_fd = os.pipe()
        self._shared_fd = _core.create_shared(1, health_slots=health_slots)
        self.shared = _core.Shared(self._shared_fd)
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        listeners = [
            {
                "purpose": purpose,
                "address": "127.0.0.1",
                "port": one.getsockname()[1],
                "flags": self._flags[purpose],
                "fds": [one.fileno()],
            }
            for purpose, one in zip(("admin", "status"), self._sockets, strict=True)
        ]
        # The supervisor tells of proxy sockets too, and hands them to the workers alone.
        listeners.append({"purpose": "proxy", "address": "127.0.0.1", "port": 1, "flags": [], "fds": [999]})
        command = [sys.executable, "-m", "pylae.admin", "--prefix", str(self.prefix)]
        command += ["--shared-fd", str(self._shared_fd), "--parent-fd", str(self._parent_fd)]
        command += ["--listeners", json.dumps(listeners), "--generation", str(self.generation)]
        inherited = [self._shared_fd, self._parent_fd, *(one.fileno() for one in self._sockets)]
        with (self.prefix / "output").open("ab") as output:
            process = subprocess.Popen(command, pass_fds=inherited, stdout=output, stderr=output)
        if self._file_size_bytes is not None:
            limit = (self._file_size_bytes, self._file_size_bytes)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
        return process

    def kill(self) -> None:
        """As the kernel would."""
        self._process.kill()
        self._process.wait(10)
        self.admin.close()
        self.status.close()

    def restart(self) -> None:
        """Another process on the same sockets."""
        self._process = self._spawn()
        self.wait()

    def send(self, number: signal.Signals) -> None:
        """Signals it."""
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """How it ended."""
        return self._process.wait(15)

    @property
    def error_log(self) -> str:
        """What it wrote."""
        return (self.prefix / "logs" / "error.log").read_text() + (self.prefix / "output").read_text()

    def wait(self) -> None:
        """Until it answers."""
        until(self._answers, "the control process to answer", 15)

    def __enter__(self) -> Self:
        self.wait()
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.error_log
        try:
            return bool(self.status.call("GET", "/status").status == 200)
        except OSError:
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends it as the end of the supervisor would."""
        self.admin.close()
        self.status.close()
        # The end of the supervisor: whoever lives on after it is a fault.
        os.close(self._our_life_fd)
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            for one in self._sockets:
                one.close()
            os.close(self._parent_fd)
            os.close(self._shared_fd)
