# SPDX-License-Identifier: Apache-2.0
"""Which run of the gateway is this?

What an operator says of a running gateway is kept for as long as it runs, and no longer. Processes die and are
replaced meanwhile; the supervisor stays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_BEGAN_AT: Final = 19
"""Place of `starttime` after the command in /proc/PID/stat (proc_pid_stat(5), field 22)."""


def run_of(supervisor_pid: int) -> str:
    """From its start to its end: the supervisor's process id, which another may get later, and when it began."""
    try:
        stat = Path(f"/proc/{supervisor_pid}/stat").read_text(encoding="ascii", errors="replace")
        # The name in parentheses may hold anything.
        return f"{supervisor_pid}:{stat.rpartition(')')[2].split()[_BEGAN_AT]}"
    except (OSError, IndexError):
        return f"{supervisor_pid}:?"


def part_of_run(generation: int) -> str:
    """From this start or reload to the next."""
    return f"{run_of(os.getppid())}:{generation}"
