# SPDX-License-Identifier: Apache-2.0
"""`python -m pylae.supervisor`: the process whose pid stands in pids/nginx.pid. `pylae start` makes it."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import resource
import sys
from pathlib import Path
from typing import Final

from pylae import _core
from pylae.errors import PylaeError
from pylae.settings import Settings
from pylae.supervisor import prefix as prefix_directory
from pylae.supervisor.error_log import ErrorLog
from pylae.supervisor.plan import plan_of
from pylae.supervisor.supervisor import Supervisor

LEAST_SLOTS: Final = 128
"""Room for more workers after a reload."""
MOST_OPEN_FILES: Final = 1 << 20


def main() -> int:
    """Runs the gateway of a prepared prefix; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pylae.supervisor", description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, help="the lock of the prefix, held already")
    parser.add_argument("--status-fd", type=int, help="gets one line: `ready`, or why it does not start")
    flags = parser.parse_args()
    teller = Teller(flags.status_fd)
    try:
        return run(flags.prefix, flags.lock_fd, teller)
    except PylaeError as error:
        teller.tell(str(error))
        return 1


class Teller:
    """Tells whoever started us how the start went, once."""

    def __init__(self, status_fd: int | None) -> None:
        self.is_daemon = status_fd is not None
        self._descriptor = status_fd
        if status_fd is not None:
            _close_on_exec(status_fd)

    def tell(self, failure: str | None) -> None:
        """`None`: the gateway serves."""
        if self._descriptor is not None:
            with contextlib.suppress(BrokenPipeError):  # whoever started us did not wait
                os.write(self._descriptor, f"{failure or 'ready'}\n".encode(errors="replace"))
            os.close(self._descriptor)
            self._descriptor = None
        elif failure is not None and not self.is_daemon:
            sys.stderr.write(f"Error: {failure}\n")


def run(prefix: Path, lock_fd: int | None, teller: Teller) -> int:
    """Runs the gateway; the exit code."""
    if lock_fd is None:
        lock_fd = prefix_directory.lock(prefix)
    _close_on_exec(lock_fd)
    plan = plan_of(Settings.from_prefix(prefix))
    log = ErrorLog(plan.error_log, plan.log_level)
    children_lock_fd = prefix_directory.lock_for_children(
        prefix, lambda pid: log.log("alert", f"process {pid} of an earlier gateway did not leave in time: killed")
    )
    _allow_open_files()
    slots = max(LEAST_SLOTS, plan.workers)
    shared_fd = _core.create_shared(slots)
    supervisor = Supervisor(
        plan,
        lambda: plan_of(Settings.from_prefix(prefix)),
        shared=_core.Shared(shared_fd),
        shared_fd=shared_fd,
        shared_slots=slots,
        children_lock_fd=children_lock_fd,
        log=log,
        on_start=teller.tell,
        keeps_output=not teller.is_daemon,
    )
    return supervisor.run()


def _close_on_exec(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
