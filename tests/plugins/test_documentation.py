# SPDX-License-Identifier: Apache-2.0
"""Does the plugin that `docs/writing-a-plugin.md` builds work as printed?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pylae.sdk
from pylae.sdk.loader import load

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "writing-a-plugin.md"
FILE_BLOCK = re.compile(r"```python\n# file: (\S+)\n(.*?)```", re.DOTALL)


def test_example_of_the_page_loads_and_its_test_passes(tmp_path: Path) -> None:
    files = dict(FILE_BLOCK.findall(PAGE.read_text()))
    assert list(files) == ["team_header.py", "test_team_header.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert load(["team-header"], [tmp_path])["team-header"].priority == 850
    python_path = os.pathsep.join(path for path in sys.path if path)
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_team_header.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "2 passed" in completed.stdout


def test_page_names_everything_the_sdk_exports_for_phases() -> None:
    page = PAGE.read_text()
    for name in ("certificate", "rewrite", "access", "response", "header_filter", "body_filter", "log"):
        assert f"`{name}(" in page
    assert pylae.sdk.Plugin.__name__ in page
