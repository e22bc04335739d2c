# SPDX-License-Identifier: Apache-2.0
"""What happens between the start of a gateway and its end?

One loop over signals, words from workers and timers. A *generation* is the set of workers started together: the
first, and one more at each reload; the older ones drain once the new one serves.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from pylae.errors import PylaeError
from pylae.supervisor import prefix as prefix_directory
from pylae.supervisor.error_log import LEVELS, ErrorLog
from pylae.supervisor.listeners import Listener, Listeners, descriptors
from pylae.supervisor.plan import Plan
from pylae.supervisor.process import Child, NotSpawned, Restarts, spawn

CONTROL_COMMAND: Final = (sys.executable, "-P", "-m", "pylae.admin")
WORKER_COMMAND: Final = (sys.executable, "-P", "-m", "pylae.worker")

TICK_S: Final = 0.5
STOP_WITHIN_S: Final = 10.0
CONTROL_LEAVES_WITHIN_S: Final = 3.0
START_WITHIN_S: Final = 60.0
"""A start or reload that takes longer has failed."""
CLOSE_LISTENERS_AFTER_S: Final = 0.25
"""Draining workers have stopped accepting by then; who connects later is refused instead of left waiting."""
SIGNALS_KNOWN_AFTER_S: Final = 2.0
OWN_DELAY_S: Final = 2.0
"""If our own loop was late by this much, the machine stood still and no worker is to blame."""
SAID_WHY: Final = 1
"""Exit code of a child that could not start and has said why."""

_TRACEBACK: Final = "Traceback (most recent call last):"
_LOG_LINE: Final = re.compile(r"[\d/]+ [\d:]+ \[(?P<level>\w+)\] (?P<pid>\d+)#\d+: (?P<message>.*)")
_SIGNALS: Final[tuple[signal.Signals, ...]] = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGCHLD,
)


class SharedMemory(Protocol):
    """The part of `pylae._core.Shared` that the supervisor reads."""

    def heartbeat_age_ms(self, slot: int) -> int | None:
        """Milliseconds since the worker was last alive."""
        ...

    def running_plugin(self, slot: int) -> tuple[str, int] | None:
        """Which plugin runs in it, since how many milliseconds."""
        ...

    def clear_slot(self, slot: int) -> None:
        """Says that nobody is in the slot."""
        ...


class Phase(Enum):
    """Where the gateway stands."""

    STARTING = "starting"
    RUNNING = "running"
    RELOADING = "reloading"
    DRAINING = "draining"
    STOPPING = "stopping"


class Supervisor:
    """Starts, watches, replaces and ends the processes of one gateway.

    Args:
        plan: what the settings say.
        read_plan: reads the settings again, for a reload.
        shared_fd: descriptor of the shared memory, passed on to every child.
        children_lock_fd: passed on to every child; the next gateway of the prefix waits until all have closed it.
        on_start: told once whether the gateway serves: `None`, or why it does not.
        keeps_output: children write what they can't log where we do; else into `error.log`.
        control_command: what runs as control, before its flags.
        worker_command: what runs as worker, before its flags.
    """

    def __init__(
        self,
        plan: Plan,
        read_plan: Callable[[], Plan],
        *,
        shared: SharedMemory,
        shared_fd: int,
        shared_slots: int,
        children_lock_fd: int,
        log: ErrorLog,
        on_start: Callable[[str | None], None],
        keeps_output: bool = True,
        control_command: Sequence[str] = CONTROL_COMMAND,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._plan = plan
        self._read_plan = read_plan
        self._shared = shared
        self._shared_fd = shared_fd
        self._shared_slots = shared_slots
        self._children_lock_fd = children_lock_fd
        self._log = log
        self._on_start = on_start
        self._keeps_output = keeps_output
        self._control_command = control_command
        self._worker_command = worker_command

        self._phase = Phase.STARTING
        # `_generation` serves; `_coming` is being started beside it during a reload.
        self._generation = 0
        self._coming: int | None = None
        self._generations_count = 0
        self._notes_count = 0
        self._listeners = Listeners()
        self._control: Child | None = None
        self._control_restarts = Restarts()
        self._workers: list[Child] = []
        self._old_plan = plan
        self._restarts: dict[int, Restarts] = {}
        self._selector = selectors.DefaultSelector()
        # Only we hold the write end: its closing tells our children that we are gone, however we went.
        self._parent_fd, self._our_life_fd = os.pipe()
        self._deadline_s: float | None = None
        self._close_listeners_at_s: float | None = None
        self._hang_check_at_s = 0.0
        self._is_reload_wanted = False
        self._start_failure: str | None = None
        self._log_offset_bytes = 0
        # What `.kong_env` held when the serving, and when the coming generation was started.
        self._settings_text = self._coming_text = ""

    def __repr__(self) -> str:
        return f"<supervisor {self._phase.value} generation={self._generation} workers={len(self._workers)}>"

    # === the loop ===

    def run(self) -> int:
        """Runs the gateway until it is told to end, or can't start.

        Returns:
            The exit code.
        """
        wake, woken = socket.socketpair()
        wake.settimeout(0)
        woken.settimeout(0)
        for number in _SIGNALS:
            signal.signal(number, _leave_to_the_loop)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ)
        self._begin()
        while not self._is_over():
            expected_s = time.monotonic() + self._patience_s()
            for key, _ in self._selector.select(self._patience_s()):
                if key.fileobj is wake:
                    for received in wake.recv(4096):
                        self._on_signal(signal.Signals(received))
                else:
                    self._on_word(key.data)
            now_s = time.monotonic()
            self._reap(now_s)
            self._on_time(now_s, late_s=now_s - expected_s)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._listeners.close()
        prefix_directory.pid_path(self._plan.prefix).unlink(missing_ok=True)
        if self._start_failure is not None:
            self._on_start(self._start_failure)
            return 1
        self._log.log("notice", "exit")
        return 0

    def _is_over(self) -> bool:
        return self._is_ending and self._control is None and not self._workers

    @property
    def _is_ending(self) -> bool:
        return self._phase in (Phase.DRAINING, Phase.STOPPING)

    def _patience_s(self) -> float:
        moments = [self._deadline_s, self._close_listeners_at_s]
        moments += [child.kill_at_s for child in self._children()]
        if not self._is_ending:
            moments += [restarts.due_at_s for restarts in (self._control_restarts, *self._restarts.values())]
        soonest_s = min((moment for moment in moments if moment is not None), default=float("inf"))
        return min(TICK_S, max(0.0, soonest_s - time.monotonic()))

    def _children(self) -> list[Child]:
        return self._workers if self._control is None else [self._control, *self._workers]

    def _of(self, generation: int | None) -> list[Child]:
        return [worker for worker in self._workers if worker.generation == generation and not worker.is_leaving]

    # === start ===

    def _begin(self) -> None:
        plan = self._plan
        self._log_offset_bytes = self._log.size_bytes()
        self._settings_text = plan.read_settings()
        for warning in plan.warnings:
            self._log.log("warn", warning)
        self._deadline_s = time.monotonic() + START_WITHIN_S
        try:
            prefix_directory.prepare_certificates(plan.prefix, plan.default_certificates)
            self._listeners.change(plan.addresses, plan.workers)
            self._listeners.commit()
            prefix_directory.write_private(prefix_directory.pid_path(plan.prefix), f"{os.getpid()}\n")
            self._hand_over()
            for listener in self._listeners:
                self._log.log("info", f"{listener.address.purpose} listens on {listener.address}")
            self._start_control()
            self._generation = self._start_generation()
        except PylaeError as error:
            self._fail_start(str(error))

    def _fail_start(self, reason: str) -> None:
        self._start_failure = reason
        self._log.log("emerg", f"the gateway does not start: {reason}")
        self._stop()

    def _has_started(self) -> None:
        self._phase = Phase.RUNNING
        self._deadline_s = None
        self._log.log("notice", f"the gateway serves with {len(self._of(self._generation))} workers")
        self._note_generation("serves")
        self._on_start(None)

    def _hand_over(self) -> None:
        """What we wrote into the prefix belongs to whom our children become."""
        if self._plan.user is not None:
            prefix_directory.give_to(self._plan.prefix, *self._plan.user)

    def _restart(self, start: Callable[[], None], restarts: Restarts) -> None:
        restarts.due_at_s = None
        try:
            start()
        except NotSpawned as error:
            pause_s = restarts.note_death(0)
            self._log.log("alert", f"{error}; the next try is in {pause_s:g} s")

    def _start_control(self) -> None:
        listeners = self._listeners.of("admin", "status")
        # The same for a control process that comes after one that died: what was declared is not read again for it.
        generation = str(self._coming or self._generation or 1)
        command = [*self._control_command, *self._flags(listeners), "--generation", generation]
        process = self._spawn(command, descriptors(listeners))
        self._control = Child(process, "control process")
        self._log.log("debug", f"control process {process.pid} started")

    def _start_generation(self) -> int:
        self._generations_count += 1
        for slot in range(self._plan.workers):
            self._start_worker(slot, self._generations_count)
        return self._generations_count

    def _start_worker(self, slot: int, generation: int) -> None:
        listeners = self._listeners.of("proxy")
        ready_fd, worker_end = os.pipe()
        command = [
            *self._worker_command,
            *self._flags(listeners),
            "--index",
            str(slot),
            "--generation",
            str(generation),
            "--ready-fd",
            str(worker_end),
        ]
        try:
            process = self._spawn(command, [worker_end, *descriptors(listeners)])
        finally:
            os.close(worker_end)
        child = Child(process, "worker process", slot, generation, ready_fd)
        self._selector.register(ready_fd, selectors.EVENT_READ, child)
        self._workers.append(child)
        self._log.log("debug", f"worker process {child.pid} started in slot {slot}, generation {generation}")

    def _flags(self, listeners: list[Listener]) -> list[str]:
        return [
            "--prefix",
            str(self._plan.prefix),
            "--shared-fd",
            str(self._shared_fd),
            "--parent-fd",
            str(self._parent_fd),
            "--listeners",
            json.dumps([listener.as_dict() for listener in listeners], separators=(",", ":")),
        ]

    def _spawn(self, command: list[str], pass_fds: list[int]) -> subprocess.Popen[bytes]:
        inherited = [self._shared_fd, self._parent_fd, self._children_lock_fd, *pass_fds]
        user, group = self._plan.user or (None, None)
        output_fd = -1 if self._keeps_output else self._log.descriptor()
        return spawn(command, inherited, output_fd, user, group)

    # === what comes in ===

    def _on_signal(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            return
        self._log.log("notice", f"signal {number.value} ({number.name}) received")
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._phase is Phase.STARTING:
                self._start_failure = "stopped while it started"
            self._stop()
        elif number == signal.SIGQUIT:
            self._drain()
        elif number == signal.SIGHUP:
            self._is_reload_wanted = self._phase in (Phase.STARTING, Phase.RUNNING, Phase.RELOADING)
        elif number == signal.SIGUSR1:
            self._log.reopen()
            for child in self._children():
                # Who has only just been started opens the new files anyway, and may not know the signal yet.
                if child.is_ready or time.monotonic() - child.started_at_s > SIGNALS_KNOWN_AFTER_S:
                    child.send(signal.SIGUSR1)

    def _on_word(self, child: Child) -> None:
        word = os.read(child.ready_fd, 1)
        self._selector.unregister(child.ready_fd)
        child.close_ready()
        child.is_ready = bool(word)
        awaited = self._of(self._generation if self._coming is None else self._coming)
        if len(awaited) < self._plan.workers or not all(worker.is_ready for worker in awaited):
            return
        if self._phase is Phase.STARTING:
            self._has_started()
        elif self._phase is Phase.RELOADING:
            self._has_reloaded()

    def _reap(self, now_s: float) -> None:
        for child in list(self._children()):
            if child.process.poll() is None:
                continue
            if child.ready_fd >= 0:
                self._selector.unregister(child.ready_fd)
                child.close_ready()
            if child is self._control:
                self._control = None
                self._control_has_ended(child, now_s)
            else:
                self._workers.remove(child)
                self._worker_has_ended(child, now_s)

    def _control_has_ended(self, child: Child, now_s: float) -> None:
        if self._is_ending:
            self._log.log("notice", f"{child.label} {child.pid} {child.how_it_ended()}")
        elif self._phase is Phase.STARTING:
            self._fail_start(self._why_it_ended(child))
        elif child.is_leaving:
            self._restart(self._start_control, self._control_restarts)
        else:
            self._log_death(child, self._control_restarts, now_s)
            if self._phase is Phase.RELOADING and child.process.returncode > 0:
                self._give_up_reload(self._why_it_ended(child))

    def _worker_has_ended(self, child: Child, now_s: float) -> None:
        if all(worker.slot != child.slot for worker in self._workers):
            # Its siblings take over its queue at once, not when its heartbeat has become old.
            self._shared.clear_slot(child.slot)
        if child.is_leaving or self._is_ending:
            self._log.log("notice", f"{child.label} {child.pid} {child.how_it_ended()}")
            if self._phase is Phase.DRAINING and not self._workers:
                self._stop_control()
        elif self._phase is Phase.STARTING:
            self._fail_start(self._why_it_ended(child))
        elif child.generation != self._coming:
            self._log_death(child, self._restarts.setdefault(child.slot, Restarts()), now_s)
        elif child.process.returncode >= 0:
            self._give_up_reload(self._why_it_ended(child))
        else:
            self._log_death(child, Restarts(), now_s)
            self._give_up_unless(lambda: self._start_worker(child.slot, child.generation))

    def _log_death(self, child: Child, restarts: Restarts, now_s: float) -> None:
        pause_s = restarts.note_death(now_s - child.started_at_s)
        self._log.log("alert", f"{child.label} {child.pid} {child.how_it_ended()}")
        if restarts.is_loop:
            where = "" if child.slot < 0 else f" of slot {child.slot}"
            self._log.log(
                "alert",
                f"crash loop: the {child.label}{where} died {restarts.deaths} times in a row within seconds of its "
                f"start; the next start is in {pause_s:g} s; hint: the lines above say what it died of",
            )

    def _why_it_ended(self, child: Child) -> str:
        """What it said last; if it did not get to say why it leaves, also how it ended."""
        reason = f"{child.label} {child.how_it_ended()}"
        written = self._log.written_since(self._log_offset_bytes)
        said_why = child.process.returncode == SAID_WHY and _TRACEBACK not in written
        for line in reversed(written):
            logged = _LOG_LINE.match(line)
            if logged is None and line.strip():
                return line.strip() if said_why else f"{reason}: {line.strip()}"
            if logged is not None and logged["pid"] == str(child.pid) and logged["level"] in LEVELS[4:]:
                return logged["message"] if said_why else f"{reason}: {logged['message']}"
        return reason

    # === timers ===

    def _on_time(self, now_s: float, late_s: float) -> None:
        for child in self._children():
            if child.kill_at_s is not None and now_s >= child.kill_at_s:
                self._log.log("alert", f"{child.label} {child.pid} did not leave in time: killed")
                child.kill_at_s = None
                child.send(signal.SIGKILL)
        if self._close_listeners_at_s is not None and now_s >= self._close_listeners_at_s:
            self._close_listeners()
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._deadline_s = None
            self._on_deadline()
        if self._is_ending:
            return
        if now_s >= self._hang_check_at_s:
            self._hang_check_at_s = now_s + TICK_S
            if late_s < OWN_DELAY_S:
                self._kill_hung_workers(now_s)
        if self._control is None and _is_due(self._control_restarts, now_s):
            self._restart(self._start_control, self._control_restarts)
        for slot, restarts in self._restarts.items():
            if _is_due(restarts, now_s):
                self._restart(partial(self._start_worker, slot, self._generation), restarts)
        if self._is_reload_wanted and self._phase is Phase.RUNNING:
            self._is_reload_wanted = False
            self._reload()

    def _close_listeners(self) -> None:
        """Nobody waits any more at what is not listened on."""
        self._close_listeners_at_s = None
        self._listeners.commit()
        if self._phase is Phase.DRAINING:
            # The Admin API is there until its process goes.
            for listener in self._listeners.of("proxy"):
                listener.close()

    def _on_deadline(self) -> None:
        awaited = self._of(self._generation if self._coming is None else self._coming)
        waiting = [worker for worker in awaited if not worker.is_ready]
        reason = f"{len(waiting)} of {self._plan.workers} workers did not serve within {START_WITHIN_S:g} s"
        if self._phase is Phase.STARTING:
            self._fail_start(reason)
        elif self._phase is Phase.RELOADING:
            self._give_up_reload(reason)

    def _kill_hung_workers(self, now_s: float) -> None:
        patience_s = self._plan.hang_timeout_s
        for worker in self._of(self._generation) + self._of(self._coming):
            age_ms = self._shared.heartbeat_age_ms(worker.slot)
            silent_s = min(now_s - worker.started_at_s, float("inf") if age_ms is None else age_ms / 1000)
            # Before its first heartbeat a worker imports and waits for control; that has the start's deadline.
            if silent_s < (patience_s if worker.is_ready else max(patience_s, START_WITHIN_S)):
                continue
            running = self._shared.running_plugin(worker.slot)
            if running is None:
                doing = "no plugin was running"
            else:
                name, for_ms = running
                doing = f"plugin {name} has been running for {for_ms} ms; hint: a plugin must not block its worker"
            self._log.log("alert", f"{worker.label} {worker.pid} was silent for {silent_s * 1000:.0f} ms, killed: {doing}")
            worker.send(signal.SIGKILL)

    # === reload ===

    def _reload(self) -> None:
        if self._close_listeners_at_s is not None:
            self._close_listeners()
        try:
            plan = self._read_plan()
            self._coming_text = plan.read_settings()
            if plan.workers > self._shared_slots:
                raise PylaeError(f"{plan.workers} workers need a restart: this gateway has room for {self._shared_slots}")
            prefix_directory.prepare_certificates(plan.prefix, plan.default_certificates)
            self._hand_over()
            self._listeners.change(plan.addresses, plan.workers)
        except PylaeError as error:
            self._keep_settings(str(error))
            return
        self._phase = Phase.RELOADING
        self._deadline_s = time.monotonic() + START_WITHIN_S
        self._log_offset_bytes = self._log.size_bytes()
        self._old_plan = self._plan
        self._adopt(plan)
        for warning in plan.warnings:
            self._log.log("warn", warning)
        self._stop_control()
        self._coming = self._generations_count + 1
        self._give_up_unless(self._start_generation)

    def _give_up_unless(self, start: Callable[[], object]) -> None:
        try:
            start()
        except NotSpawned as error:
            self._give_up_reload(str(error))

    def _adopt(self, plan: Plan) -> None:
        self._plan = plan
        self._log.level = plan.log_level
        self._log.path = plan.error_log
        self._log.reopen()

    def _has_reloaded(self) -> None:
        self._phase = Phase.RUNNING
        self._deadline_s = None
        assert self._coming is not None
        self._generation, self._coming = self._coming, None
        self._restarts = {}
        self._settings_text = self._coming_text
        for worker in self._workers:
            if worker.generation != self._generation and not worker.is_leaving:
                self._drain_worker(worker)
        self._close_listeners_at_s = time.monotonic() + CLOSE_LISTENERS_AFTER_S
        serving = len(self._of(self._generation))
        self._log.log("notice", f"reloaded: generation {self._generation} serves with {serving} workers")
        self._note_generation("serves")

    def _give_up_reload(self, reason: str) -> None:
        """The old generation goes on as if nothing had been asked."""
        for worker in self._of(self._coming):
            worker.leave(signal.SIGTERM, CONTROL_LEAVES_WITHIN_S)
        self._coming = None
        self._phase = Phase.RUNNING
        self._deadline_s = None
        self._adopt(self._old_plan)
        self._listeners.revert()
        self._keep_settings(reason)
        self._stop_control()

    def _keep_settings(self, reason: str) -> None:
        self._log.log("error", f"not reloaded, the old settings stay: {reason}")
        self._write(self._plan.settings_path, self._settings_text)
        self._note_generation(f"not reloaded: {reason}")

    def _note_generation(self, outcome: str) -> None:
        """Tells `pylae reload` how it went."""
        # Each note differs from the one before, also when the same reload fails twice: the command waits for a change.
        self._notes_count += 1
        self._write(self._plan.prefix / "pids" / "generation", f"{self._generations_count}.{self._notes_count} {outcome}\n")

    def _write(self, path: Path, text: str) -> None:
        """Writes what would be good to have: a full disk must not end the gateway."""
        try:
            prefix_directory.write_private(path, text)
            self._hand_over()
        except prefix_directory.PrefixUnusable as error:
            self._log.log("crit", str(error))

    # === end ===

    def _drain(self) -> None:
        if self._phase is Phase.STARTING:
            self._start_failure = "stopped while it started"
            self._stop()
        elif self._phase in (Phase.RUNNING, Phase.RELOADING):
            self._phase = Phase.DRAINING
            self._deadline_s = None
            self._close_listeners_at_s = time.monotonic() + CLOSE_LISTENERS_AFTER_S
            for worker in self._workers:
                self._drain_worker(worker)
            if not self._workers:
                self._stop_control()

    def _drain_worker(self, worker: Child) -> None:
        worker.leave(signal.SIGQUIT if worker.is_ready else signal.SIGTERM, self._plan.drain_timeout_s)

    def _stop(self) -> None:
        if self._phase is Phase.STOPPING:
            return
        self._phase = Phase.STOPPING
        self._deadline_s = None
        for child in self._children():
            child.leave(signal.SIGTERM, STOP_WITHIN_S)

    def _stop_control(self) -> None:
        if self._control is not None and not self._control.is_leaving:
            self._control.leave(signal.SIGTERM, CONTROL_LEAVES_WITHIN_S)


def _is_due(restarts: Restarts, now_s: float) -> bool:
    return restarts.due_at_s is not None and now_s >= restarts.due_at_s


def _leave_to_the_loop(number: int, frame: object) -> None:
    """Python wakes the loop by the descriptor; there is nothing to do in here."""
