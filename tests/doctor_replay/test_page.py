# SPDX-License-Identifier: Apache-2.0
"""Does the example of `docs/plugin-replay.md` say what the page prints?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plugin-replay.md"


def test_example_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    plugin, example = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "team_gate.py").write_text(plugin)
    completed = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == printed
