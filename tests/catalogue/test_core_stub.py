# SPDX-License-Identifier: Apache-2.0
"""Does the typed face of the data plane say what the compiled module has?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_stub_agrees_with_the_compiled_module() -> None:
    check = [sys.executable, "-m", "mypy.stubtest", "pylae._core"]
    run = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False, timeout=25)
    assert run.returncode == 0, run.stdout + run.stderr
