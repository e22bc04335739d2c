# SPDX-License-Identifier: Apache-2.0
"""How does a test get a real gateway of its own, and what can it see of it?"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import processes, raw
from tests.support.admin import Admin
from tests.support.logs import Log
from tests.support.ports import free_port
from tests.support.wait import until

COMMAND = Path(sys.executable).with_name("pylae")
PLUGIN_FOLDER = Path(__file__).parent / "plugins"
# Patience for a busy machine; a quiet one needs a second and a half.
START_WITHIN_S = 20.0
STOP_WITHIN_S = 15.0

# Gateways that run now: a failing test's report shows the tail of their logs (tests/conftest.py).
running: list[Gateway] = []


class Gateway:
    """Supervisor, control and workers under a fresh prefix, on free ports, in the foreground of this test.

    Attributes:
        folder: ours, gone after the test; short on purpose: the path of a Unix socket may have 107 bytes.
        prefix: the gateway's; the same folder unless the settings say another.
        settings: Kong's names, lower case, without the `KONG_`.
        variables: more of the environment of its processes, such as secrets.
    """

    # What stands before the command, such as taskset; it must become the command by exec.
    wrapper: Sequence[str] = ()
    keeps_prefix = False

    def __init__(
        self,
        settings: Mapping[str, str | int] | None = None,
        *,
        workers: int = 1,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pylae-t-"))
        self.prefix = Path(str((settings or {}).get("prefix", self.folder)))
        self.proxy_port, self.proxy_tls_port = free_port(), free_port()
        self.admin_port, self.status_port = free_port(), free_port()
        self.settings: dict[str, str | int] = {
            "prefix": str(self.prefix),
            "database": "sqlite",
            "proxy_listen": f"127.0.0.1:{self.proxy_port} reuseport, 127.0.0.1:{self.proxy_tls_port} ssl reuseport",
            "admin_listen": f"127.0.0.1:{self.admin_port}",
            "status_listen": f"127.0.0.1:{self.status_port}",
            "admin_gui_listen": "off",
            "nginx_worker_processes": workers,
            "nginx_daemon": "off",
            **(settings or {}),
        }
        self.variables = dict(variables or {})
        self.admin = Admin(self.admin_port)
        self.access_log = Log(self.prefix / "logs" / "access.log")
        self.error_log = Log(self.prefix / "logs" / "error.log")
        self.failures = Log(self.prefix / "logs" / "failures.jsonl")
        self.process: subprocess.Popen[bytes] | None = None

    # === life ===

    def environment(self) -> dict[str, str]:
        """What the gateway's processes start with: the settings, and nothing of ours that could change them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PYLAE_"))}
        ours = {f"KONG_{name.upper()}": str(value) for name, value in self.settings.items()}
        plugin_path = ours.pop("KONG_PLUGIN_PATH", str(PLUGIN_FOLDER))
        return {**kept, "PYLAE_PLUGIN_PATH": plugin_path, **ours, **self.variables}

    def start(self) -> Self:
        """Start, and wait until the Admin API answers and every worker serves."""
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.keeps_prefix = True
            self.end()
            raise
        return self

    def spawn(self) -> None:
        """Start without waiting."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*self.wrapper, COMMAND, "start"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
            )
        if self not in running:
            running.append(self)

    def wait_ready(self, within_s: float = START_WITHIN_S) -> None:
        """Wait until the Admin API answers and every worker serves the committed configuration."""
        until(self._is_ready, f"the gateway in {self.prefix} to start", within_s)

    def _is_ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"the gateway ended: {self.output()}\n{self.error_log.tail()}"
        try:
            return self.is_settled() and raw.get(self.proxy_port, "/-/nothing-here").status == 404
        except (OSError, raw.ClosedEarly):
            return False

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pylae <arguments>` against this gateway."""
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment(), capture_output=True, text=True, timeout=30, check=False
        )

    def stop(self) -> None:
        """End it; its folder goes, unless a test that failed keeps it."""
        self.end()
        if not self.keeps_prefix:
            shutil.rmtree(self.folder, ignore_errors=True)

    def end(self) -> None:
        """End its processes by their pids; what it stored stays."""
        if self.process:
            members = processes.tree(self.process.pid)
            processes.stop_tree(self.process.pid, STOP_WITHIN_S)
            self.process.wait(5)
            with contextlib.suppress(AssertionError):  # a supervisor that was killed leaves its workers to themselves
                until(lambda: not any(map(processes.is_alive, members)), "the workers to leave", 5)
            for member in members:
                processes.send(member, signal.SIGKILL)
            self.process = None
        if self in running:
            running.remove(self)
        self.admin.close()

    def output(self) -> str:
        """What the start command wrote."""
        path = self.folder / "output"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.keeps_prefix = self.keeps_prefix or error is not None
        self.stop()

    # === processes ===

    def tree(self) -> list[int]:
        """The supervisor and all below it; none when it does not run."""
        try:
            return processes.tree(self.supervisor_pid)
        except (OSError, ValueError):
            return []

    def stop_in_background(self) -> None:
        """End what `pylae start` left in the background, whatever state it is in; its folder goes."""
        members = self.tree()
        self.command("stop")
        for member in members:
            processes.send(member, signal.SIGKILL)
        self.stop()

    @property
    def supervisor_pid(self) -> int:
        """The process whose pid stands in pids/nginx.pid."""
        return int((self.prefix / "pids" / "nginx.pid").read_text())

    def worker_pids(self) -> list[int]:
        """Living workers."""
        return self._pids("pylae.worker")

    def control_pid(self) -> int:
        """The control process.

        Raises:
            AssertionError: it does not live now.
        """
        found = self._pids("pylae.admin")
        assert len(found) == 1, f"control processes: {found}"
        return found[0]

    def _pids(self, module: str) -> list[int]:
        try:
            supervisor = self.supervisor_pid
        except (OSError, ValueError):
            return []
        return [pid for pid in processes.tree(supervisor) if f"-m {module}" in processes.command_line(pid)]

    # === configuration ===

    def status(self) -> dict[str, Any]:
        """`GET /status` of the Admin API."""
        answer: dict[str, Any] = self.admin.get("/status")
        return answer

    def is_settled(self) -> bool:
        """Whether every worker serves what the database holds."""
        return _is_settled(self.status(), int(self.settings["nginx_worker_processes"]))

    def settle(self, within_s: float = 5.0) -> None:
        """Wait until every worker serves what the database holds."""
        until(self.is_settled, "every worker to serve the committed configuration", within_s)

    # === traffic ===

    def connect(self) -> raw.Client:
        """A connection to the proxy."""
        return raw.Client(self.proxy_port)

    def get(self, path: str, *lines: str, host: str = "gateway.test") -> raw.Reply:
        """GET through the proxy, on a connection of its own."""
        return raw.get(self.proxy_port, path, *lines, host=host)

    def send(self, data: bytes, method: str = "GET") -> raw.Reply:
        """Send bytes to the proxy on a connection of their own and read one reply."""
        return raw.exchange(self.proxy_port, data, method)


def _is_settled(status: dict[str, Any], workers: int) -> bool:
    committed, connected = status["pylae"]["version"], status["pylae"]["workers"]
    newest = max((worker["generation"] for worker in connected), default=0)
    serving = [worker for worker in connected if worker["generation"] == newest and worker["version"] == committed]
    return committed is not None and len(serving) == workers
