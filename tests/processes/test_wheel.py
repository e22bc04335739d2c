# SPDX-License-Identifier: Apache-2.0
"""Does a wheel install and run where there is neither Rust nor a compiler?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import raw
from tests.support.gateway import Gateway
from tests.support.wait import until

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run to the end; what it said."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_wheel_runs_without_rust(tmp_path: Path) -> None:
    run("make", "wheel")
    (wheel,) = (ROOT / "dist").glob("pylae-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    installed = tmp_path / "venv" / "bin"
    bare = {"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(tmp_path)}
    run(installed / "python", "-m", "pip", "install", "-q", wheel, environment=bare)
    run(installed / "python", "-m", "pip", "check", environment=bare)

    gateway = Gateway({"nginx_daemon": "on"})
    settings = {name: value for name, value in gateway.environment().items() if name.startswith("KONG_")}
    try:
        assert run(installed / "pylae", "start", environment={**bare, **settings}) == "Pylae started\n"
        until(lambda: raw.get(gateway.proxy_port, "/nothing").status == 404, "the proxy to answer")
        assert gateway.admin.get("/")["pylae_version"] in wheel.name
    finally:
        run(installed / "pylae", "stop", environment={**bare, **settings})
        gateway.stop()
