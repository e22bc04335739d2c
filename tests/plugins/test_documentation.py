# SPDX-License-Identifier: Apache-2.0
"""Does the plugin that `docs/writing-a-plugin.md` builds work as printed?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert_passes("test_team_header.py", tmp_path, "2 passed")


@pytest.mark.parametrize("directory", sorted(path.parent for path in (REPOSITORY / "examples").glob("*/test_*.py")), ids=str)
def test_test_of_an_example_passes(directory: Path) -> None:
    assert_passes(str(directory), directory, " passed")


def assert_passes(tests: str, directory: Path, summary: str) -> None:
    """Runs tests in a process of their own, as their reader would."""
    python_path = os.pathsep.join(path for path in sys.path if path)
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(directory), tests],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert summary in completed.stdout


def test_page_names_everything_the_sdk_exports_for_phases() -> None:
    page = PAGE.read_text()
    for name in ("certificate", "rewrite", "access", "response", "header_filter", "body_filter", "log"):
        assert f"`{name}(" in page
    assert pylae.sdk.Plugin.__name__ in page
