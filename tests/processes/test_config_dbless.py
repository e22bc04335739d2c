# SPDX-License-Identifier: Apache-2.0
"""Does a gateway without a database start, reload and recover with the configuration it was given?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.gateway import Gateway
from tests.support.origin import Origin, answer
from tests.support.wait import until


def text(origin: Origin, *names: str) -> str:
    lines = ['_format_version: "3.0"', "services:", "- name: s", f"  url: {origin.url}", "  routes:"]
    return "\n".join([*lines, *(f"  - {{name: {name}, paths: [/{name}]}}" for name in names)]) + "\n"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(answer(b"ok")) as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kong.yml"


@pytest.fixture
def gateway(file: Path, origin: Origin) -> Iterator[Gateway]:
    """In the background; not started yet."""
    file.write_text(text(origin, "first"))
    made = Gateway({"nginx_daemon": "on", "database": "off", "declarative_config": str(file)})
    yield made
    made.stop_in_background()


def serves(gateway: Gateway, name: str) -> bool:
    return gateway.get(f"/{name}").status == 200


def post(gateway: Gateway, origin: Origin) -> None:
    sent = gateway.admin.call("POST", "/config", text(origin, "posted").encode(), {"Content-Type": "application/yaml"})
    assert sent.status == 201


def start(gateway: Gateway) -> None:
    started = gateway.command("start")
    assert (started.returncode, started.stderr) == (0, "")


def test_a_declared_file_is_served_from_the_first_request(gateway: Gateway) -> None:
    start(gateway)
    assert serves(gateway, "first")
    assert len(gateway.status()["configuration_hash"]) == 32


def test_a_declared_text_is_served_too(gateway: Gateway, origin: Origin) -> None:
    del gateway.settings["declarative_config"]
    gateway.settings["declarative_config_string"] = (
        f'{{"_format_version":"3.0","services":[{{"name":"s","url":"{origin.url}","routes":[{{"name":"r","paths":["/r"]}}]}}]}}'
    )
    start(gateway)
    assert serves(gateway, "r")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            "_format_version: '3.0'\nservices:\n- name: a\n- {name: b, host: h, port: x}\n",
            "line 3, `services[1].host`: required field missing; line 4, `services[2].port`: expected an integer",
        ),
        ("a: [b\n", "1:5: did not find expected ',' or ']'"),
        ("_format_version: '3.0'\nplugins:\n- {name: nope}\n", "line 3, `plugins[1].name`: plugin 'nope' not enabled"),
    ],
    ids=["schema", "yaml", "plugin"],
)
def test_a_broken_file_stops_the_start_and_names_line_and_field(gateway: Gateway, file: Path, broken: str, told: str) -> None:
    file.write_text(broken)
    failed = gateway.command("start")
    assert failed.returncode == 1
    assert f"error parsing declarative config file {file}: " in failed.stderr
    assert told in failed.stderr
    assert gateway.tree() == []


def test_a_file_that_is_not_there_stops_the_start(gateway: Gateway, file: Path) -> None:
    file.unlink()
    failed = gateway.command("start")
    assert failed.returncode == 1
    assert f"{file}: it cannot be read: No such file or directory" in failed.stderr


def test_a_reload_reads_the_file_again(gateway: Gateway, file: Path, origin: Origin) -> None:
    start(gateway)
    file.write_text(text(origin, "second"))
    assert not serves(gateway, "second")
    reloaded = gateway.command("reload")
    assert (reloaded.returncode, reloaded.stdout) == (0, "Pylae reloaded\n")
    until(lambda: serves(gateway, "second") and not serves(gateway, "first"), "the new configuration")


def test_a_signal_reads_it_again_too(gateway: Gateway, file: Path, origin: Origin) -> None:
    start(gateway)
    file.write_text(text(origin, "second"))
    os.kill(gateway.supervisor_pid, signal.SIGHUP)
    until(lambda: serves(gateway, "second"), "the new configuration", 15)


def test_a_broken_file_at_a_reload_keeps_the_old_configuration(gateway: Gateway, file: Path, origin: Origin) -> None:
    start(gateway)
    workers = gateway.worker_pids()
    file.write_text(text(origin, "second") + "nope: 1\n")
    failed = gateway.command("reload")
    assert failed.returncode == 1
    assert "line 7, `nope`: unknown field" in failed.stderr
    assert serves(gateway, "first")
    assert gateway.worker_pids() == workers
    until(lambda: [row["name"] for row in gateway.admin.get("/routes")["data"]] == ["first"], "control to be back", 15)
    lines = gateway.error_log.path.read_text()
    assert "[error]" in lines
    assert "not reloaded, the old settings stay" in lines
    # It is mended, and taken.
    file.write_text(text(origin, "second"))
    assert gateway.command("reload").returncode == 0
    until(lambda: serves(gateway, "second"), "the new configuration")


def test_what_was_posted_outlives_control_and_not_a_reload(gateway: Gateway, origin: Origin) -> None:
    start(gateway)
    body = {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": origin.url, "routes": [{"name": "p", "paths": ["/posted"]}]}],
    }
    gateway.admin.post("/config", body)
    gateway.settle()
    version = gateway.status()["pylae"]["version"]
    killed = gateway.control_pid()
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in processes.tree(gateway.supervisor_pid), "control to be dead")
    assert serves(gateway, "posted")
    until(lambda: _is_back(gateway), "control to be back", 15)
    assert gateway.status()["pylae"]["version"] == version
    assert serves(gateway, "posted")
    assert gateway.command("reload").returncode == 0
    until(lambda: serves(gateway, "first") and not serves(gateway, "posted"), "what is declared")


def test_what_was_posted_outlives_a_restart_when_nothing_is_declared(gateway: Gateway, origin: Origin) -> None:
    del gateway.settings["declarative_config"]
    start(gateway)
    body = {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": origin.url, "routes": [{"name": "p", "paths": ["/posted"]}]}],
    }
    gateway.admin.post("/config", body)
    gateway.settle()
    version = gateway.status()["pylae"]["version"]
    assert gateway.command("stop").returncode == 0
    start(gateway)
    assert serves(gateway, "posted")
    assert gateway.status()["pylae"]["version"] == version


def _is_back(gateway: Gateway) -> bool:
    try:
        return gateway.is_settled()
    except OSError:
        return False
