# SPDX-License-Identifier: Apache-2.0
"""Does a gateway run in this prefix, and how is it told to do something?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pylae.cli.talk import CommandFailed
from pylae.supervisor import prefix as prefix_directory

_POLL_S: Final = 0.01


def existing(prefix: Path) -> Path:
    """The prefix.

    Raises:
        CommandFailed: there is none.
    """
    if not prefix.is_dir():
        raise CommandFailed(f"no such prefix: {prefix}")
    return prefix


def running_pid(prefix: Path) -> int:
    """The supervisor's pid.

    Raises:
        CommandFailed: none runs.
    """
    pid = pid_of(existing(prefix))
    if pid is None:
        raise CommandFailed(f"Pylae not running in prefix: {prefix}")
    return pid


def pid_of(prefix: Path) -> int | None:
    """The supervisor's pid; `None` when nobody holds the lock of the prefix, whatever its pid file says."""
    try:
        if not prefix_directory.is_locked(prefix):
            return None
        return int(prefix_directory.pid_path(prefix).read_text())
    except (OSError, ValueError):
        return None


def send(pid: int, number: signal.Signals) -> None:
    """Signals the supervisor.

    Raises:
        CommandFailed: it belongs to somebody else.
    """
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise CommandFailed(f"process {pid} belongs to another user: {error}") from error


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether it came true in time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def is_gone(prefix: Path) -> bool:
    """Whether neither the supervisor nor its children are left."""
    return not prefix_directory.is_locked(prefix) and not prefix_directory.is_locked(prefix, "children.lock")


def kill(prefix: Path, pid: int) -> None:
    """The last resort: ends every process of the gateway, each by its pid."""
    for one in (pid, *prefix_directory.leftovers(prefix)):
        send(one, signal.SIGKILL)
