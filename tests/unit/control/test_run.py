# SPDX-License-Identifier: Apache-2.0
"""Is another run of the gateway told from this one, though process ids come again?"""

from __future__ import annotations

import os
import subprocess

from pylae.control.run import part_of_run, run_of


def test_a_run_is_told_by_its_supervisor_and_when_it_began() -> None:
    pid, began_at = run_of(os.getpid()).split(":")
    assert int(pid) == os.getpid()
    assert int(began_at) > 0
    assert run_of(os.getpid()) == f"{pid}:{began_at}"


def test_a_name_of_a_process_may_hold_anything() -> None:
    rename = "import sys; open('/proc/self/comm', 'w').write(') 1 2 ('); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(["python3", "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert int(run_of(child.pid).partition(":")[2]) >= int(run_of(os.getpid()).partition(":")[2])
        child.stdin.close()
    assert run_of(child.pid) == f"{child.pid}:?"


def test_each_reload_is_another_part_of_a_run() -> None:
    assert part_of_run(1) == f"{run_of(os.getppid())}:1"
    assert part_of_run(1) != part_of_run(2)
