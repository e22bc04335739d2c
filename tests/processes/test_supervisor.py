# SPDX-License-Identifier: Apache-2.0
"""What does the supervisor do when its children, its settings or its addresses misbehave? Its children are stand-ins."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.processes.standin import COMMAND
from tests.support import processes
from tests.support.ports import free_port
from tests.support.wait import until


class Supervised:
    """A supervisor with stand-ins under a prefix of its own."""

    def __init__(self, prefix: Path, workers: int = 2) -> None:
        self.prefix = prefix
        self.port = free_port()
        self.write("workers", str(workers))
        self.write("port", str(self.port))
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, name: str, text: str = "") -> None:
        """Tell the stand-ins, or the supervisor at its next reading of the settings."""
        (self.prefix / name).write_text(text)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        self.process = subprocess.Popen([*COMMAND, "supervisor", "--prefix", str(self.prefix)])
        return self.process

    def start(self) -> None:
        """Start it, and wait until it says how that went."""
        self.spawn()
        until(lambda: (self.prefix / "started").exists() and self.outcome(), "the start")

    def outcome(self) -> str:
        """What the supervisor said of its start."""
        return (self.prefix / "started").read_text()

    def tell(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        assert self.process
        processes.send(self.process.pid, number)

    def log(self) -> str:
        """What stands in error.log."""
        return (self.prefix / "logs" / "error.log").read_text()

    def wait_for_line(self, part: str, within_s: float = 5.0) -> str:
        """A line of error.log with this part in it."""
        return until(lambda: next((line for line in self.log().splitlines() if part in line), None), part, within_s)

    def children(self, role: str) -> set[int]:
        """Living stand-ins of one role."""
        assert self.process
        found = processes.children(self.process.pid)
        return {pid for pid in found if f"tests.processes.standin {role}" in processes.command_line(pid)}

    def workers(self) -> set[int]:
        """Living workers."""
        return self.children("worker")

    def refuses(self, port: int) -> bool:
        """Whether nobody listens there."""
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    def ask(self, port: int | None = None) -> int:
        """The pid of the worker that accepted a new connection."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=5) as connection:
            return int(connection.recv(100))


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """Not started yet."""
    made = Supervised(tmp_path)
    yield made
    if made.process:
        left = processes.tree(made.process.pid)
        for pid in left:
            processes.send(pid, signal.SIGKILL)
        made.process.wait(5)


def test_a_dead_worker_is_back_in_under_a_second(supervised: Supervised) -> None:
    supervised.start()
    before = supervised.workers()
    dead = min(before)
    processes.send(dead, signal.SIGKILL)
    until(lambda: len(supervised.workers() - {dead}) == 2, "a new worker", 1.0)
    assert before & supervised.workers() == before - {dead}
    supervised.wait_for_line(f"worker process {dead} exited on signal 9")


def test_a_dead_control_is_back_in_under_a_second(supervised: Supervised) -> None:
    supervised.start()
    (dead,) = supervised.children("control")
    processes.send(dead, signal.SIGKILL)
    until(lambda: supervised.children("control") - {dead}, "a new control", 1.0)


def test_a_crash_loop_is_named_and_slows_down(supervised: Supervised) -> None:
    supervised.start()
    supervised.write("fail-worker")
    processes.send(min(supervised.workers()), signal.SIGKILL)
    line = supervised.wait_for_line("crash loop")
    assert "slot" in line
    assert "died 3 times in a row" in line
    assert "the worker was told to fail" in supervised.log()
    (supervised.prefix / "fail-worker").unlink()
    until(lambda: len(supervised.workers()) == 2, "the worker to be back")


@pytest.mark.parametrize("role", ["control", "worker"])
def test_a_start_whose_child_fails_says_why_and_leaves_nothing(supervised: Supervised, role: str) -> None:
    supervised.write(f"fail-{role}")
    supervised.start()
    assert f"{role} process exited with code 3" in supervised.outcome()
    assert "told to fail" in supervised.outcome()
    assert supervised.process
    assert supervised.process.wait(5) == 1
    assert not supervised.workers()
    assert not (supervised.prefix / "pids" / "nginx.pid").exists()


def test_a_taken_address_is_named(supervised: Supervised) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", supervised.port))
        other.listen()
        supervised.start()
    assert f"bind() to 127.0.0.1:{supervised.port} failed (98: Address already in use)" in supervised.outcome()
    assert "proxy_listen" in supervised.outcome()


def test_a_silent_worker_is_killed_and_its_plugin_named(supervised: Supervised) -> None:
    supervised.start()
    until(lambda: supervised.workers(), "workers")
    before = supervised.workers()
    supervised.write("silent", "1")
    line = supervised.wait_for_line("was silent for")
    assert "plugin loop access has been running for 12345 ms" in line
    until(lambda: len(now := supervised.workers()) == 2 and now != before, "its successor")


def test_a_reload_replaces_every_worker_and_control(supervised: Supervised) -> None:
    supervised.start()
    before, control = supervised.workers(), supervised.children("control")
    supervised.tell(signal.SIGHUP)
    supervised.wait_for_line("reloaded: generation 2 serves with 2 workers")
    until(lambda: len(now := supervised.workers()) == 2 and not now & before, "the old generation to leave")
    until(lambda: len(now := supervised.children("control")) == 1 and not now & control, "a new control")
    assert supervised.ask() in supervised.workers()


def test_a_reload_with_more_workers_and_another_address(supervised: Supervised) -> None:
    supervised.start()
    first, added = supervised.port, free_port()
    supervised.write("workers", "3")
    supervised.write("port", f"{supervised.port} {added}")
    supervised.tell(signal.SIGHUP)
    supervised.wait_for_line("generation 2 serves with 3 workers")
    assert supervised.ask(added) in supervised.workers()
    supervised.write("port", str(added))
    supervised.tell(signal.SIGHUP)
    supervised.wait_for_line("generation 3 serves with 3 workers")
    until(partial(supervised.refuses, first), "the first address to be closed")
    assert supervised.ask(added) in supervised.workers()


@pytest.mark.parametrize("how", ["settings", "worker", "control", "address"])
def test_a_reload_that_fails_leaves_the_old_generation(supervised: Supervised, how: str) -> None:
    supervised.start()
    before = supervised.workers()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        if how == "settings":
            supervised.write(".kong_env", "broken")
        elif how == "address":
            supervised.write("port", f"{supervised.port} {other.getsockname()[1]}")
        else:
            supervised.write(f"fail-{how}")
        supervised.write("workers", "3")
        supervised.tell(signal.SIGHUP)
        supervised.wait_for_line("not reloaded, the old settings stay")
        note = supervised.prefix / "pids" / "generation"
        first = note.read_text()
        if how == "address":
            # The command waits for the note to change: the same failure again must be another note.
            supervised.tell(signal.SIGHUP)
            until(lambda: note.read_text() != first, "another note of the same failure")
    (supervised.prefix / f"fail-{how}").unlink(missing_ok=True)
    assert (supervised.prefix / ".kong_env").read_text() == ""
    until(lambda: supervised.workers() == before, "the new generation to be gone")
    until(lambda: len(supervised.children("control")) == 1, "control to be back")
    for _ in range(16):
        assert supervised.ask() in before
    assert "not reloaded" in (supervised.prefix / "pids" / "generation").read_text()


def test_log_files_are_opened_anew(supervised: Supervised) -> None:
    supervised.start()
    log = supervised.prefix / "logs" / "error.log"
    log.rename(log.with_suffix(".1"))
    supervised.tell(signal.SIGUSR1)
    until(log.exists, "a new error.log")
    for pid in supervised.workers():
        until((supervised.prefix / f"reopened-{pid}").exists, "the worker to be told")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_ends_with_its_children(supervised: Supervised, number: signal.Signals) -> None:
    supervised.start()
    children = supervised.workers() | supervised.children("control")
    assert len(children) == 3
    supervised.tell(number)
    assert supervised.process
    assert supervised.process.wait(5) == 0
    assert not any(map(processes.is_alive, children))
    with pytest.raises(ConnectionRefusedError):
        supervised.ask()


def test_who_does_not_leave_is_killed(supervised: Supervised) -> None:
    supervised.start()
    supervised.write("stubborn")
    supervised.tell(signal.SIGQUIT)
    assert supervised.process
    assert supervised.process.wait(10) == 0
    assert "did not leave in time: killed" in supervised.log()


def test_children_of_a_killed_supervisor_leave_and_the_next_start_waits_for_them(supervised: Supervised) -> None:
    supervised.start()
    children = supervised.workers() | supervised.children("control")
    first = supervised.process
    assert first
    supervised.tell(signal.SIGKILL)
    first.wait(5)
    (supervised.prefix / "started").unlink()
    supervised.start()
    assert supervised.outcome() == "ready"
    assert not any(map(processes.is_alive, children))
