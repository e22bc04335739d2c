# SPDX-License-Identifier: Apache-2.0
"""What do the commands about declarative configurations do, say and exit with?"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from pylae.cli.declared import raise_refusal
from pylae.cli.talk import CommandFailed
from pylae.errors import DatabaseError
from tests.support import processes
from tests.support.gateway import COMMAND, Gateway
from tests.support.origin import Origin, answer
from tests.support.wait import until

FILE = """\
_format_version: "3.0"
services:
- name: s
  url: %s
  routes:
  - {name: r, paths: [/r]}
consumers:
- username: bob
  keyauth_credentials:
  - {id: 00000000-0000-4000-8000-000000000001, key: %s}
"""
CLASH = """\
_format_version: "3.0"
services:
- {name: new, host: h}
consumers:
- username: eve
  keyauth_credentials:
  - {id: 00000000-0000-4000-8000-000000000002, key: k1}
"""
WRONG = """\
_format_version: "3.0"
services:
- name: a
- name: b
  host: h
  routes:
  - {paths: [/], strip_path: 3}
consumers:
- tags: [a]
"""
HINT = "\n\n  Run with --v (verbose) or --vv (debug) for more details\n"


class Shell:
    """Runs commands about a prefix where no gateway runs, in a folder of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PYLAE_"))}
        given = {"prefix": str(folder / "prefix"), "database": "sqlite", **settings}
        self.environment |= {f"KONG_{name.upper()}": value for name, value in given.items()}

    def run(self, *arguments: str) -> CompletedProcess[str]:
        command: list[str | Path] = [COMMAND, "config", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def write(self, text: str, name: str = "kong.yml") -> str:
        (self.folder / name).write_text(text)
        return name

    def exported(self) -> dict[str, Any]:
        name = f"export-{len(list(self.folder.iterdir()))}.yml"
        assert self.run("db_export", name).returncode == 0
        values: dict[str, Any] = yaml.safe_load((self.folder / name).read_text())
        return values


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(answer(b"ok")) as started:
        yield started


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def good(url: str = "http://127.0.0.1:1", key: str = "k1") -> str:
    return FILE % (url, key)


# === init, parse ===


def test_init_writes_a_proper_example_and_overwrites_nothing(shell: Shell) -> None:
    made = shell.run("init")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert shell.run("parse", "kong.yml").stdout == "parse successful\n"
    again = shell.run("init")
    assert (again.returncode, again.stderr) == (1, f"Error: kong.yml already exists.\nWill not overwrite it.{HINT}")
    assert shell.run("init", "other.yml").returncode == 0


def test_parse_needs_a_file(shell: Shell) -> None:
    failed = shell.run("parse")
    assert (failed.returncode, failed.stderr) == (
        1,
        f"Error: expected a declarative configuration file; see `pylae config --help`{HINT}",
    )


def test_parse_tells_all_that_is_wrong_with_lines(shell: Shell) -> None:
    failed = shell.run("parse", shell.write(WRONG))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "Error: Failed parsing:\n"
        "in 'services':\n"
        "  - in entry 1 of 'services':\n"
        "    in 'host': required field missing (line 3)\n"
        "  - in entry 2 of 'services':\n"
        "    in 'routes':\n"
        "      - in entry 1 of 'routes':\n"
        "        in 'strip_path': expected a boolean (line 7)\n"
        "in 'consumers':\n"
        "  - in entry 1 of 'consumers':\n"
        f"    at least one of these fields must be non-empty: 'custom_id', 'username' (line 9){HINT}"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [b", "failed parsing declarative configuration: 1:5: did not find expected ',' or ']'"),
        ("", "failed parsing declarative configuration: expected an object"),
        ("services: []", "in '_format_version': required field missing"),
    ],
)
def test_parse_refuses_what_is_no_configuration(shell: Shell, text: str, told: str) -> None:
    failed = shell.run("parse", shell.write(text))
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error: Failed parsing:\n{told}")


def test_a_file_that_is_not_there_is_said(shell: Shell) -> None:
    failed = shell.run("parse", "nothing.yml")
    assert failed.returncode == 1
    assert "nothing.yml: No such file or directory" in failed.stderr


def test_an_unknown_action_prints_the_usage(shell: Shell) -> None:
    failed = shell.run("destroy")
    assert failed.returncode == 1
    assert "usage: pylae config" in failed.stderr


# === import, export, diff, without a gateway ===


def test_what_is_imported_is_exported(shell: Shell) -> None:
    imported = shell.run("db_import", shell.write(good()))
    assert (imported.returncode, imported.stdout) == (0, "parse successful, beginning import\nimport successful\n")
    values = shell.exported()
    assert (values["_format_version"], values["_transform"]) == ("3.0", False)
    assert [row["name"] for row in values["routes"]] == ["r"]
    assert values["routes"][0]["service"] == values["services"][0]["id"]
    exported = shell.folder / "again.yml"
    assert shell.run("db_export", "again.yml").returncode == 0
    assert exported.stat().st_mode & 0o077 == 0
    assert shell.run("db_export", "again.yml").stderr.startswith("Error: again.yml already exists.\nWill not overwrite it.")
    assert shell.run("diff", "again.yml").stdout == "0 to create, 0 to update, 0 to delete\n"


def test_an_import_changes_what_is_there_and_leaves_the_rest(shell: Shell) -> None:
    shell.run("db_import", shell.write(good()))
    first = shell.exported()
    changed = '_format_version: "3.0"\nservices:\n- {name: s, url: "http://127.0.0.1:2"}\n- {name: t, host: h}\n'
    assert shell.run("db_import", shell.write(changed)).returncode == 0
    second = shell.exported()
    assert {row["name"]: row["port"] for row in second["services"]} == {"s": 2, "t": 80}
    assert second["routes"] == first["routes"]


def test_an_import_that_fails_leaves_nothing(shell: Shell) -> None:
    shell.run("db_import", shell.write(good()))
    before = shell.exported()
    failed = shell.run("db_import", shell.write(CLASH))
    assert (failed.returncode, failed.stdout) == (1, "parse successful, beginning import\n")
    assert failed.stderr == f"Error: Failed importing:\nUNIQUE violation detected on '{{key=\"k1\"}}'{HINT}"
    assert shell.exported() == before


def test_an_import_needs_a_database(tmp_path: Path) -> None:
    shell = Shell(tmp_path, database="off")
    failed = shell.run("db_import", shell.write(good()))
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: 'pylae config db_import' only works with a database.\n")


def test_a_difference_is_shown_without_secrets(shell: Shell) -> None:
    shell.run("db_import", shell.write(good(key="old-secret")))
    told = shell.run("diff", shell.write(good("http://127.0.0.1:2", "new-secret")), "--non-zero-exit-code")
    assert told.returncode == 2
    assert told.stdout == (
        "~ services s\n    port: 1 → 2\n"
        '~ keyauth_credentials 00000000-0000-4000-8000-000000000001\n    key: "******" → "******"\n\n'
        "0 to create, 2 to update, 0 to delete\n"
    )
    assert shell.run("diff", "kong.yml").returncode == 0
    assert "secret" not in told.stdout + told.stderr


def test_rows_that_an_import_leaves_are_counted(shell: Shell) -> None:
    shell.run("db_import", shell.write(good()))
    told = shell.run("diff", shell.write('_format_version: "3.0"\nservices:\n- {name: new, host: h}\n'))
    assert told.stdout.startswith('+ services new\n    name: "new"\n')
    assert told.stdout.endswith(
        "1 to create, 0 to update, 0 to delete\n4 more in the database, which an import leaves as they are\n"
    )


def test_what_is_stored_is_what_was_looked_at(shell: Shell) -> None:
    # A pipe gives its text once.
    path = shell.folder / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(good(),))
    writer.start()
    imported = shell.run("db_import", "pipe")
    writer.join(10)
    assert (imported.returncode, imported.stdout) == (0, "parse successful, beginning import\nimport successful\n")
    assert [row["name"] for row in shell.exported()["routes"]] == ["r"]


def shape(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


@pytest.mark.parametrize("action", ["db_export", "diff"])
def test_who_reads_leaves_a_database_as_it_is(shell: Shell, action: str) -> None:
    shell.run("db_import", shell.write(good()))
    path = shell.folder / "prefix" / "pylae.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # As an older version had it.
        connection.execute("DROP TABLE key_sets")
        connection.execute("ALTER TABLE services DROP COLUMN tls_verify_depth")
    before, data = shape(path), path.read_bytes()
    failed = shell.run(action, "kong.yml" if action == "diff" else "export.yml")
    assert failed.returncode == 1
    assert "has not the column `services.tls_verify_depth`, the table `key_sets`; hint: start the gateway" in failed.stderr
    assert (shape(path), path.read_bytes()) == (before, data)


@pytest.mark.parametrize("content", [b"", b"no database" * 500], ids=["blank", "damaged"])
def test_a_file_without_a_database_in_it(shell: Shell, content: bytes) -> None:
    path = shell.folder / "prefix" / "pylae.db"
    path.parent.mkdir()
    path.write_bytes(content)
    told = shell.run("diff", shell.write('_format_version: "3.0"\n'))
    if content:
        assert (told.returncode, "file is not a database" in told.stderr) == (1, True)
    else:
        assert told.stdout == "0 to create, 0 to update, 0 to delete\n"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("reply", "expected", "told"),
    [
        (["reply", 1, True, 3], None, ""),
        (["reply", 1, False, {"error": "timeout", "message": "m"}], CommandFailed, "needs more than 60 s and goes on"),
        (["reply", 1, False, {"error": "unavailable", "message": "m"}], DatabaseError, "m"),
        (["what"], CommandFailed, "not confirmed"),
    ],
    ids=["stored", "later", "refused", "unknown"],
)
def test_what_a_gateway_says_of_an_import_is_told(reply: list[Any], expected: type[Exception] | None, told: str) -> None:
    with contextlib.nullcontext() if expected is None else pytest.raises(expected, match=told):
        raise_refusal(reply)


def in_terminal(shell: Shell, *arguments: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "config", *arguments],
        cwd=shell.folder,
        env={**shell.environment, "TERM": "xterm", **environment},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the terminal's other end is gone
        while piece := os.read(ours, 65536):
            written += piece
    os.close(ours)
    process.wait(30)
    return written.decode()


def test_a_terminal_gets_colours_unless_it_wants_none(shell: Shell) -> None:
    name = shell.write(good())
    assert "\x1b[32m+ services s\x1b[0m" in in_terminal(shell, "diff", name)
    assert "\x1b" not in in_terminal(shell, "diff", name, NO_COLOR="1")
    assert "\x1b" not in in_terminal(shell, "diff", name, TERM="dumb")


def test_what_stands_in_a_row_does_not_steer_the_terminal(shell: Shell) -> None:
    name = shell.write(
        '{"_format_version":"3.0","services":[{"name":"s","host":"h","path":"/","tags":["\\u009b31m\\u001b]0;x\\u0007"]}]}'
    )
    told = shell.run("diff", name).stdout
    assert not set(told) & {"\x1b", "\x07", "\x9b"}


def test_a_large_file_has_a_bar_on_a_terminal(shell: Shell) -> None:
    routes = [{"name": f"r{n}", "paths": [f"/{n}"]} for n in range(12_000)]
    name = shell.write(json.dumps({"_format_version": "3.0", "services": [{"name": "s", "host": "h", "routes": routes}]}))
    told = in_terminal(shell, "diff", name, NO_COLOR="1")
    assert "checking ━" in told
    assert "%" in told
    assert "12001 to create" in told
    # Nothing of it is left on the terminal, or in a file.
    assert "checking" not in told.rpartition("\x1b[K")[2]
    assert shell.run("parse", name).stderr == ""


# === a gateway that runs ===


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Gateway, Shell]]:
    with Gateway() as gateway:
        shell = Shell(tmp_path)
        shell.environment |= gateway.environment()
        yield gateway, shell


def test_a_running_gateway_serves_what_was_imported(running: tuple[Gateway, Shell], origin: Origin) -> None:
    gateway, shell = running
    imported = shell.run("db_import", shell.write(good(origin.url)))
    assert (imported.returncode, imported.stderr) == (0, "")
    until(lambda: gateway.get("/r").status == 200, "the imported Route to be served")
    gateway.admin.post("/consumers", {"username": "eve"})
    assert {row["username"] for row in shell.exported()["consumers"]} == {"bob", "eve"}


def test_rows_that_have_other_ids_are_found_by_name(running: tuple[Gateway, Shell], origin: Origin) -> None:
    gateway, shell = running
    made = gateway.admin.post("/services", {"name": "s", "url": origin.url})
    gateway.admin.post("/services/s/plugins", {"name": "key-auth"})
    file = f'_format_version: "3.0"\nservices:\n- name: s\n  url: {origin.url}\n  retries: 1\n  plugins: [{{name: key-auth}}]\n'
    told = shell.run("diff", shell.write(file))
    assert "1 to update" in told.stdout
    assert "0 to create" in told.stdout
    assert shell.run("db_import", "kong.yml").returncode == 0
    changed = gateway.admin.get("/services/s")
    assert (changed["id"], changed["retries"], changed["created_at"]) == (made["id"], 1, made["created_at"])


def test_an_import_that_a_running_gateway_refuses_leaves_nothing(running: tuple[Gateway, Shell]) -> None:
    gateway, shell = running
    shell.run("db_import", shell.write(good()))
    version = gateway.status()["pylae"]["version"]
    failed = shell.run("db_import", shell.write(CLASH))
    assert failed.returncode == 1
    assert "Failed importing:\nUNIQUE violation detected on '{key=\"k1\"}'" in failed.stderr
    assert gateway.status()["pylae"]["version"] == version


def test_a_gateway_without_a_database_can_be_exported_and_compared(tmp_path: Path, origin: Origin) -> None:
    with Gateway({"database": "off"}) as gateway:
        shell = Shell(tmp_path)
        shell.environment |= gateway.environment()
        answer = gateway.admin.call("POST", "/config", good(origin.url).encode(), {"Content-Type": "application/yaml"})
        assert answer.status == 201
        assert [row["name"] for row in shell.exported()["routes"]] == ["r"]
        told = shell.run("diff", shell.write('_format_version: "3.0"\nconsumers:\n- username: bob\n'))
        assert told.stdout.endswith("0 to create, 0 to update, 3 to delete\n")


def test_a_running_gateway_is_read_with_its_own_settings(running: tuple[Gateway, Shell], origin: Origin) -> None:
    gateway, shell = running
    assert shell.run("db_import", shell.write(good(origin.url))).returncode == 0
    before = shape(gateway.prefix / "pylae.db")
    for name in list(shell.environment):
        if name.startswith(("KONG_", "PYLAE_")) and name != "KONG_PREFIX":
            del shell.environment[name]
    shell.environment |= {"KONG_DATABASE": "off", "KONG_PLUGINS": "off"}
    assert [row["key"] for row in shell.exported()["keyauth_credentials"]] == ["k1"]
    assert shell.run("diff", "kong.yml").stdout == "0 to create, 0 to update, 0 to delete\n"
    assert shell.run("db_import", "kong.yml").returncode == 0
    assert shape(gateway.prefix / "pylae.db") == before


def test_an_import_whose_gateway_dies_is_not_said_to_have_failed(running: tuple[Gateway, Shell]) -> None:
    gateway, shell = running
    control = gateway.control_pid()
    processes.send(control, signal.SIGSTOP)
    process = subprocess.Popen(
        [COMMAND, "config", "db_import", shell.write(good())],
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "parse successful, beginning import\n"
    until(lambda: _waits_for_an_answer(process.pid), "the import to be sent", 10)
    processes.send(control, signal.SIGKILL)
    assert process.wait(10) == 1
    told = process.stderr.read()
    assert "Import not confirmed; it stores all of the file or nothing" in told
    assert "Failed importing" not in told
    process.stdout.close()
    process.stderr.close()


def _waits_for_an_answer(pid: int) -> bool:
    # The system call in which it sleeps: poll or ppoll, on x86-64 and arm64.
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in {"7", "271", "73"}


@pytest.mark.parametrize("after_ms", [400, 800, 1200])
@pytest.mark.parametrize("is_running", [False, True], ids=["alone", "gateway runs"])
def test_an_import_that_is_killed_leaves_all_or_nothing(tmp_path: Path, after_ms: int, is_running: bool) -> None:  # noqa: FBT001 - a parameter of the test
    shell = Shell(tmp_path)
    routes = [{"name": f"r{n}", "paths": [f"/{n}"]} for n in range(1000)]
    name = shell.write(json.dumps({"_format_version": "3.0", "services": [{"name": "s", "host": "h", "routes": routes}]}))
    with contextlib.ExitStack() as stack:
        if is_running:
            shell.environment |= stack.enter_context(Gateway()).environment()
        process = subprocess.Popen(
            [COMMAND, "config", "db_import", name], cwd=tmp_path, env=shell.environment, stdout=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_ms / 1000)
        processes.send(process.pid, signal.SIGKILL)
        process.wait(10)
        if is_running:
            # What the control process had begun it ends, one way or the other.
            until(lambda: len(shell.exported().get("routes", [])) in (0, 1000), "a whole import", 10)
        held = shell.exported()
        assert (len(held.get("services", [])), len(held.get("routes", []))) in ((0, 0), (1, 1000))
