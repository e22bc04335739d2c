# SPDX-License-Identifier: Apache-2.0
"""What has changed since the last build, and what must be done about it?

Run by scripts/bootstrap.sh with the Python of the environment that is built. Standard library only: this is what
installs everything else. `--check` exits with 0 when there is nothing to do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
STATE: Final = ROOT / ".build"
RUST: Final = ("Cargo.toml", "Cargo.lock", "crates", "rust-toolchain.toml")
METADATA: Final = ("pyproject.toml", "README.md", "scripts/build.py")
PYTHON: Final = ("python",)
PROGRESS_EVERY_S: Final = 0.5
LINE_EVERY_S: Final = 15.0  # where the output is no terminal
LOG_TAIL_LINES: Final = 40


def main() -> int:
    """Brings one environment up to date; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("run", "test", "wheel"))
    parser.add_argument("--check", action="store_true", help="only say whether something must be done")
    flags = parser.parse_args()
    STATE.mkdir(exist_ok=True)
    # An editable install sees changes of Python by itself.
    watched = RUST + METADATA + (() if flags.mode == "test" else PYTHON)
    stamp = STATE / f"{flags.mode}.stamp"
    state = f"{sys.version} {fingerprint(watched)}"
    is_current = stamp.is_file() and stamp.read_text() == state and bool(list(products(flags.mode)))
    if flags.check:
        return 0 if is_current else 1
    if not is_current:
        {"run": build_run, "test": build_test, "wheel": build_wheel}[flags.mode]()
        stamp.write_text(state)
    return 0


def products(mode: str) -> Iterator[Path]:
    """What a build of this mode leaves."""
    if mode == "wheel":
        return (ROOT / "dist").glob("*.whl")
    return Path(sys.executable).parent.glob("pylae")


def fingerprint(places: Iterable[str]) -> str:
    """A digest of names, sizes and times of the files below some places."""
    digest = hashlib.sha256()
    for place in places:
        top = ROOT / place
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc"):
                about = path.stat()
                digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# === the three modes ===


def build_run() -> None:
    """The release build, installed as a wheel into .venv: later changes of the tree do not reach a running gateway."""
    install_packages(project()["build-system"]["requires"], "the build tool")
    # Downloads wait for the network, the compiler for the processor: both at once.
    compiling = Compilation(["build", "--release", "--interpreter", sys.executable, "--out", str(STATE / "wheels")])
    shutil.rmtree(STATE / "wheels", ignore_errors=True)
    compiling.start()
    install_packages(project()["project"]["dependencies"], "what Pylae imports")
    compiling.finish()
    (wheel,) = (STATE / "wheels").glob("*.whl")
    pip("install", "--no-deps", "--force-reinstall", str(wheel))


def build_test() -> None:
    """The test build, installed editable into .venv-test; it lies in the source tree, where only tests look."""
    about = project()
    # maturin has pip install the group `dev`, which older ones can't.
    tools = ["pip>=25.1", *about["build-system"]["requires"], *about["dependency-groups"]["dev"]]
    install_packages([*tools, *about["project"]["dependencies"]], "tools of tests and lint, what Pylae imports")
    for old in (ROOT / "python" / "pylae").glob("_core*.so"):
        old.unlink()  # written over in place it would end the gateways that run with it
    compiling = Compilation(["develop", "--profile", "test-build"])
    compiling.start()
    compiling.finish()


def build_wheel() -> None:
    """A wheel that installs and runs where there is no Rust."""
    install_packages(project()["build-system"]["requires"], "the build tool")
    compiling = Compilation(["build", "--release", "--interpreter", sys.executable, "--out", str(ROOT / "dist")])
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    compiling.start()
    compiling.finish()
    say("wheel", ", ".join(str(path.relative_to(ROOT)) for path in products("wheel")))


# === the steps ===


def project() -> dict[str, dict[str, list[str]]]:
    """What pyproject.toml says."""
    about: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return about


def say(what: str, message: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{what.ljust(9)} {message}\n")
    sys.stdout.flush()


def pip(*arguments: str) -> None:
    """Runs pip; its output is shown when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nError: pip {arguments[0]} failed; what it said stands above")


def install_packages(requirements: list[str], what: str) -> None:
    """Installs packages unless the same ones were asked for last time."""
    stamp = Path(sys.prefix) / f"pylae-{hashlib.sha256(what.encode()).hexdigest()[:8]}.stamp"
    wanted = "\n".join(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say("packages", what)
    pip("install", *requirements)
    stamp.write_text(wanted)


class Compilation:
    """maturin and cargo at work, told about in one line."""

    def __init__(self, arguments: list[str]) -> None:
        self._command = [str(Path(sys.executable).with_name("maturin")), *arguments]
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read)
        self._started_at_s = 0.0
        self._crates: list[str] = []

    def start(self) -> None:
        """Begins."""
        profile = "release" if "--release" in self._command else "test"
        say("compiling", f"the data plane ({profile} build; the first time about {crate_count()} crates, which takes minutes)")
        self._started_at_s = time.monotonic()
        environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "CARGO_TERM_COLOR": "never"}
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader.start()

    def _read(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line)
            if line.lstrip().startswith("Compiling "):
                self._crates.append(line.split()[1])

    def finish(self) -> None:
        """Waits, telling how far it is; ends the program when it fails."""
        assert self._process
        is_terminal = sys.stdout.isatty()
        told_at_s = time.monotonic()
        while self._reader.is_alive():
            self._reader.join(PROGRESS_EVERY_S)
            now = self._crates[-1] if self._crates else "..."
            line = f"{time.monotonic() - self._started_at_s:.0f} s, {len(self._crates)} crates, now {now}"
            if is_terminal:
                sys.stdout.write(f"\r\x1b[K{'compiling'.ljust(9)} {line}")
                sys.stdout.flush()
            elif time.monotonic() - told_at_s > LINE_EVERY_S:
                told_at_s = time.monotonic()
                say("compiling", line)
        if is_terminal:
            sys.stdout.write("\r\x1b[K")
        if self._process.wait() != 0:
            sys.exit("".join(self._lines[-LOG_TAIL_LINES:]) + "\nError: the build failed; what it said stands above")
        say("compiled", f"in {time.monotonic() - self._started_at_s:.0f} s")


def crate_count() -> int:
    """About how many crates there are to compile."""
    lock = (ROOT / "Cargo.lock").read_text()
    elsewhere = re.compile(r'name = "(?:windows|winapi|wasm|web-sys|js-sys|objc|core-foundation|security-framework|criterion)')
    return sum(1 for part in lock.split("[[package]]")[1:] if not elsewhere.search(part))


if __name__ == "__main__":
    sys.exit(main())
