# SPDX-License-Identifier: Apache-2.0
"""What stands in for control and workers where a test is about the supervisor alone?

`python -m tests.processes.standin ROLE ...`: `supervisor` runs a real `Supervisor` whose children are `control` and
`worker` of this module. The folder of the prefix tells them how to behave: `workers`, `port`, `fail-worker`,
`fail-control`, `silent`, `stubborn` are files that a test writes.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from json import loads
from pathlib import Path
from typing import Any

from pylae.errors import SettingsError
from pylae.settings import ENVIRONMENT_FILE
from pylae.supervisor import prefix as prefix_directory
from pylae.supervisor.error_log import ErrorLog
from pylae.supervisor.listeners import Address
from pylae.supervisor.plan import Plan
from pylae.supervisor.supervisor import Supervisor

COMMAND = (sys.executable, "-m", "tests.processes.standin")


class Heartbeats:
    """Shared memory in which a slot is silent while the file `silent` names it."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    def heartbeat_age_ms(self, slot: int) -> int | None:
        """Very old for the silent one."""
        silent = self._prefix / "silent"
        return 3_600_000 if silent.exists() and silent.read_text() == str(slot) else 0

    def running_plugin(self, slot: int) -> tuple[str, int] | None:
        """The one that made it silent."""
        return ("loop access", 12_345) if self.heartbeat_age_ms(slot) else None

    def clear_slot(self, slot: int) -> None:
        """The next worker of the slot is not silent."""
        silent = self._prefix / "silent"
        if self.heartbeat_age_ms(slot):
            silent.unlink()


def supervisor(flags: Namespace) -> int:
    """A supervisor of stand-ins; the exit code."""
    prefix: Path = flags.prefix
    prefix_directory.prepare(prefix)
    (prefix / ENVIRONMENT_FILE).touch()

    def read_plan() -> Plan:
        if (prefix / ENVIRONMENT_FILE).read_text() == "broken":
            raise SettingsError("broken settings")
        addresses = tuple(Address("proxy", "127.0.0.1", int(port)) for port in (prefix / "port").read_text().split())
        count = int((prefix / "workers").read_text())
        return Plan(prefix, count, addresses, prefix / "logs" / "error.log", "debug", 2.0, 2.0)

    def on_start(failure: str | None) -> None:
        (prefix / "started").write_text(failure or "ready")

    prefix_directory.lock(prefix)
    log = ErrorLog(prefix / "logs" / "error.log", "debug")
    children_lock_fd = prefix_directory.lock_for_children(prefix, print)
    return Supervisor(
        read_plan(),
        read_plan,
        shared=Heartbeats(prefix),
        shared_fd=os.open(os.devnull, os.O_RDONLY),
        shared_slots=8,
        children_lock_fd=children_lock_fd,
        log=log,
        on_start=on_start,
        keeps_output=False,
        control_command=(*COMMAND, "control"),
        worker_command=(*COMMAND, "worker"),
    ).run()


def control(flags: Namespace) -> int:
    """Waits to be told to leave; the exit code."""
    if (flags.prefix / "fail-control").exists():
        sys.stderr.write("control was told to fail\n")
        return 3
    _wait(flags, lambda: None, [])
    return 0


def worker(flags: Namespace) -> int:
    """Answers each connection with its pid; the exit code."""
    if (flags.prefix / "fail-worker").exists():
        sys.stderr.write("the worker was told to fail\n")
        return 3
    sockets = []
    for listener in loads(flags.listeners):
        mine = socket.socket(fileno=listener["fds"][flags.index])
        sockets.append(mine)
    # Without control there is no configuration to serve.
    has_control = not (flags.prefix / "fail-control").exists()
    _wait(flags, lambda: has_control and os.write(flags.ready_fd, b"1"), sockets)
    return 0


def _wait(flags: Namespace, begin: Callable[[], object], sockets: list[socket.socket]) -> None:
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for one in (wake, flags.parent_fd, *sockets):
            selector.register(one, selectors.EVENT_READ)
        begin()
        while True:
            for key, _ in selector.select():
                if key.fileobj in sockets:
                    _greet(key.fileobj)
                elif key.fileobj is wake and (told := wake.recv(1)[0]) == signal.SIGUSR1:
                    (flags.prefix / f"reopened-{os.getpid()}").touch()
                elif key.fileobj is not wake or not (flags.prefix / "stubborn").exists():
                    return
                else:
                    sys.stderr.write(f"stays in spite of {told}\n")


def _greet(listening: Any) -> None:
    try:
        connection, _ = listening.accept()
    except BlockingIOError:
        return
    with connection:
        connection.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    _parser = ArgumentParser()
    _parser.add_argument("role", choices=("supervisor", "control", "worker"))
    _parser.add_argument("--prefix", type=Path)
    _parser.add_argument("--listeners")
    for _name in ("--index", "--generation", "--shared-fd", "--parent-fd", "--ready-fd"):
        _parser.add_argument(_name, type=int)
    _flags = _parser.parse_args()
    sys.exit({"supervisor": supervisor, "control": control, "worker": worker}[_flags.role](_flags))
