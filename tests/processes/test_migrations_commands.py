# SPDX-License-Identifier: Apache-2.0
"""What do the commands about the database's shape do, say and exit with?"""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.gateway import COMMAND, Gateway

FACTS = json.loads((Path(__file__).parents[1] / "facts" / "kong" / "cli.json").read_text())["commands"]["migrations"]
UP_TO_DATE = "Database is already up-to-date"
NONE = "there is no database, and nothing to migrate: database = off\n"


class Shell:
    """Runs `pylae migrations` about a prefix where no gateway runs."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.prefix = folder / "prefix"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PYLAE_"))}
        given = {"prefix": str(self.prefix), "database": "sqlite", **settings}
        self.environment |= {f"KONG_{name.upper()}": value for name, value in given.items()}

    def run(self, *words: str) -> CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "migrations", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.prefix / "pylae.db")) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def outcome(done: CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_facts_are_those_that_are_tested() -> None:
    assert set(FACTS["subcommands"]) == {"bootstrap", "up", "finish", "list", "reset", "status"}
    assert UP_TO_DATE in FACTS["messages"]


@pytest.mark.parametrize("action", ["bootstrap", "up", "finish"])
def test_the_database_is_made_once(shell: Shell, action: str) -> None:
    assert outcome(shell.run(action)) == (0, "migrated up to: 000_base (executed)\nDatabase is up-to-date\n", "")
    assert (shell.prefix / "pylae.db").stat().st_mode & 0o777 == 0o600
    for again in ("bootstrap", "up", "finish"):
        assert outcome(shell.run(again)) == (0, f"{UP_TO_DATE}\n", "")
    assert outcome(shell.run("list")) == (0, "Executed migrations:\ncore: 000_base\n", "")


def test_looking_makes_nothing(shell: Shell) -> None:
    listed = shell.run("list")
    assert listed.returncode == 3
    assert "pylae migrations bootstrap" in listed.stdout
    status = shell.run("status")
    assert status.returncode == 3
    assert json.loads(status.stdout)["needs_bootstrap"] is True
    assert not shell.prefix.exists()


def test_what_is_missing_is_new_until_it_was_added(shell: Shell) -> None:
    shell.run("bootstrap")
    shell.change("ALTER TABLE services DROP COLUMN read_timeout")
    listed = shell.run("list")
    assert listed.returncode == 5
    assert "New migrations available:\ncore: services.read_timeout\n" in listed.stdout
    assert "Run 'pylae migrations up' to proceed" in listed.stdout
    assert json.loads(shell.run("status").stdout) == {
        "needs_bootstrap": False,
        "executed_migrations": ["000_base"],
        "pending_migrations": [],
        "new_migrations": ["services.read_timeout"],
    }
    assert "services.read_timeout" in shell.run("up").stdout
    assert shell.run("list").returncode == 0


def test_flags_of_kong_are_taken(shell: Shell, tmp_path: Path) -> None:
    conf = tmp_path / "kong.conf"
    conf.write_text("log_level = info\n")
    other = tmp_path / "other"
    words = ("-q", "-f", "--db-timeout", "5", "--lock-timeout", "9", "-c", str(conf), "-p", str(other))
    assert outcome(shell.run("bootstrap", *words)) == (0, "", "")
    assert (other / "pylae.db").exists()


def test_a_reset_asks_or_is_told(shell: Shell) -> None:
    shell.run("bootstrap")
    refused = shell.run("reset")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: not a tty: invoke 'reset' non-interactively with the --yes flag\n")
    assert shell.run("list").returncode == 0
    assert shell.run("reset", "--yes").returncode == 0
    assert shell.run("list").returncode == 3
    assert [path.name for path in shell.prefix.glob("pylae.db*")] == []
    nothing = shell.run("reset", "-y")
    assert nothing.returncode == 1
    assert "nothing to reset" in nothing.stderr


@pytest.mark.parametrize(("answer", "is_kept"), [(b"n\n", True), (b"\n", True), (b"y\n", False)])
def test_a_terminal_is_asked(shell: Shell, answer: bytes, is_kept: bool) -> None:  # noqa: FBT001 - a parameter of the test
    shell.run("bootstrap")
    ours, its = pty.openpty()
    try:
        os.write(ours, answer)
        done = subprocess.run(
            [COMMAND, "migrations", "reset"],
            env=shell.environment,
            stdin=its,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == 0
    assert ("cancelled" in done.stdout) == is_kept
    assert (shell.prefix / "pylae.db").exists() == is_kept


def test_a_gateway_that_runs_keeps_its_database() -> None:
    with Gateway() as gateway:
        assert outcome(gateway.command("migrations", "up")) == (0, f"{UP_TO_DATE}\n", "")
        refused = gateway.command("migrations", "reset", "--yes")
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Error: Pylae is already running in {gateway.prefix}\n")
        assert (gateway.prefix / "pylae.db").exists()
        assert gateway.admin.get("/services") == {"data": [], "next": None}


@pytest.mark.parametrize("action", ["bootstrap", "up", "finish", "list"])
def test_without_a_database_there_is_nothing_to_do(tmp_path: Path, action: str) -> None:
    assert outcome(Shell(tmp_path, database="off").run(action)) == (0, "", NONE)


def test_without_a_database_there_is_nothing_to_reset(tmp_path: Path) -> None:
    shell = Shell(tmp_path, database="off")
    assert shell.run("reset", "--yes").returncode == 1
    status = shell.run("status")
    assert status.returncode == 0
    assert json.loads(status.stdout)["needs_bootstrap"] is False


def test_a_file_that_is_no_database_is_said(shell: Shell) -> None:
    shell.prefix.mkdir()
    (shell.prefix / "pylae.db").write_text("not a database" * 100)
    for action in ("up", "list", "status"):
        done = shell.run(action)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: sqlite: file is not a database\n")


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    done = Shell(tmp_path, database="postgres").run("bootstrap")
    assert done.returncode == 1
    assert "`database = postgres` is not there yet" in done.stderr
