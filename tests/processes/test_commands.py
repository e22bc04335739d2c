# SPDX-License-Identifier: Apache-2.0
"""What do the commands do, say and exit with, against a real gateway?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pylae import __version__
from tests.support import processes, raw
from tests.support.blueprints import Blueprints
from tests.support.gateway import COMMAND, Gateway
from tests.support.load import Load
from tests.support.origin import Behaviour, Connection, Origin, answer
from tests.support.ports import free_port
from tests.support.raw import request
from tests.support.wait import until


@pytest.fixture
def background() -> Iterator[Gateway]:
    """A gateway that `pylae start` starts in the background; not started yet."""
    gateway = Gateway({"nginx_daemon": "on"}, workers=2)
    yield gateway
    gateway.stop_in_background()


def late(after_s: float) -> Behaviour:
    """Answers one request after a while."""

    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.pause(after_s)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    return serve


def start(gateway: Gateway) -> list[int]:
    """Start it; its processes."""
    started = gateway.command("start")
    assert (started.returncode, started.stdout, started.stderr) == (0, "Pylae started\n", "")
    return gateway.tree()


def is_replaced(gateway: Gateway, before: set[int]) -> bool:
    """Whether none of these workers is left."""
    return not before & set(gateway.worker_pids())


def test_start_returns_once_every_worker_serves_and_stop_once_all_have_gone(background: Gateway) -> None:
    pids = start(background)
    assert len(pids) == 4
    assert background.is_settled()
    assert raw.get(background.proxy_port, "/nothing").status == 404
    health = background.command("health")
    assert health.returncode == 0
    assert health.stdout == (
        f"pylae.......running\nadmin.......running\nworker......running\n\nPylae is healthy at {background.prefix}\n"
    )
    stopped = background.command("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Pylae stopped\n")
    assert not any(map(processes.is_alive, pids))
    health = background.command("health")
    assert health.returncode == 1
    assert health.stderr.startswith(f"Error: Pylae is not running at {background.prefix}\n")


def test_the_prefix_is_ours_alone(background: Gateway) -> None:
    start(background)
    for name, mode in {"": 0o700, ".kong_env": 0o600, "sockets/control.sock": 0o600, "ssl/kong-default.key": 0o600}.items():
        assert (background.prefix / name).stat().st_mode & 0o777 == mode, name


def test_a_second_start_is_refused_and_changes_nothing(background: Gateway) -> None:
    pids = start(background)
    written = (background.prefix / ".kong_env").read_bytes()
    background.settings["log_level"] = "debug"
    second = background.command("start")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith(f"Error: Pylae is already running in {background.prefix}\n\n  Run with --v (verbose)")
    assert (background.prefix / ".kong_env").read_bytes() == written
    assert background.tree() == pids


def test_an_address_of_another_gateway_is_named_and_nothing_stays(background: Gateway) -> None:
    start(background)
    with_same_port = Gateway({"nginx_daemon": "on", "proxy_listen": f"127.0.0.1:{background.proxy_port} reuseport"})
    refused = with_same_port.command("start")
    assert refused.returncode == 1
    assert f"Error: bind() to 127.0.0.1:{background.proxy_port} failed (98: Address already in use)" in refused.stderr
    assert with_same_port.tree() == []
    with_same_port.stop()


def test_a_start_that_fails_says_why(background: Gateway) -> None:
    background.settings["plugins"] = "bundled,not-there"
    failed = background.command("start")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: not-there plugin is enabled but not installed")
    assert background.tree() == []


def test_a_misspelt_variable_is_refused(background: Gateway) -> None:
    background.variables["PYLAE_ADMIN_AUTH_TOKENS"] = "a-long-secret"
    for command in ("start", "restart"):
        failed = background.command(command)
        assert failed.returncode == 1
        assert "hint: the nearest is `PYLAE_ADMIN_AUTH_TOKEN`" in failed.stderr
    background.variables.clear()
    pids = start(background)
    background.variables["PYLAE_ADMIN_AUTH_TOKENS"] = "a-long-secret"
    assert "no setting `admin_auth_tokens`" in background.command("reload").stderr
    assert background.command("health").returncode == 0
    assert background.command("stop").returncode == 0
    assert not any(map(processes.is_alive, pids))


def test_a_variable_that_looks_like_a_setting_is_told_at_start(background: Gateway) -> None:
    background.variables["KONG_ADMIN_AUTH_TOKN"] = "a-long-secret"
    started = background.command("start")
    assert (started.returncode, started.stdout) == (0, "Pylae started\n")
    assert started.stderr.startswith("Warning: the environment has KONG_ADMIN_AUTH_TOKN, which is no setting")
    assert len(started.stderr.splitlines()) == 1
    assert "[warn]" in background.error_log.wait_for("KONG_ADMIN_AUTH_TOKN")[0]


def test_settings_without_effect_are_told_once_at_warn(background: Gateway) -> None:
    background.settings["resolver_mem_cache_size"] = "6m"
    start(background)
    lines = background.error_log.wait_for("resolver_mem_cache_size")
    assert len(lines) == 1
    assert "[warn]" in lines[0]


def test_commands_say_where_nothing_runs(background: Gateway) -> None:
    background.settings["prefix"] = str(background.folder / "nowhere")
    for command in ("stop", "quit", "reload", "health"):
        done = background.command(command)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: no such prefix: {background.folder}/nowhere\n"), command
    background.settings["prefix"] = str(background.prefix)
    for command in ("stop", "quit", "reload"):
        done = background.command(command)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: Pylae not running in prefix: {background.prefix}\n"), command


def test_restart_takes_the_new_settings(background: Gateway) -> None:
    assert background.command("restart").stdout == "Pylae started\n"
    before = background.tree()
    background.settings["log_level"] = "debug"
    assert background.command("restart").returncode == 0
    assert not set(before) & set(background.tree())
    background.error_log.wait_for("[debug]")


def test_a_flag_beats_the_environment(background: Gateway, tmp_path: Path) -> None:
    other = tmp_path / "p"
    assert background.command("prepare", "-p", str(other)).returncode == 0
    assert (other / ".kong_env").is_file()
    assert f"prefix = {other}" in (other / ".kong_env").read_text()
    assert not (background.prefix / ".kong_env").exists()


def test_quit_serves_what_is_in_flight(background: Gateway) -> None:
    start(background)
    with Origin(late(1.0)) as origin:
        path = Blueprints(background).path(origin)
        with background.connect() as client:
            client.send(request("GET", path))
            origin.wait_requests(1)
            quitting = background.command("quit")
            assert client.read_reply().body == b"late"
    assert (quitting.returncode, quitting.stdout) == (0, "Pylae stopped (gracefully)\n")
    with pytest.raises(ConnectionRefusedError):
        background.connect()


def test_quit_is_bounded(background: Gateway) -> None:
    pids = start(background)
    with Origin(late(30.0)) as origin:
        path = Blueprints(background).path(origin)
        with background.connect() as client:
            client.send(request("GET", path))
            origin.wait_requests(1)
            quitting = background.command("quit", "-t", "1")
    assert (quitting.returncode, quitting.stdout) == (0, "Timeout, Pylae stopped forcefully\n")
    assert not any(map(processes.is_alive, pids))


def test_reload_with_fewer_and_more_workers_under_load_costs_no_request(background: Gateway) -> None:
    start(background)
    with Origin(answer(b"ok")) as origin:
        path = Blueprints(background).path(origin)
        with Load(background.proxy_port, path) as load, Load(background.proxy_port, path, keep_alive=False) as fresh:
            load.wait_for(50)
            for workers in (1, 3, 2):
                before = set(background.worker_pids())
                background.settings["nginx_worker_processes"] = workers
                reloaded = background.command("reload")
                assert (reloaded.returncode, reloaded.stdout, reloaded.stderr) == (0, "Pylae reloaded\n", "")
                until(partial(is_replaced, background, before), "the old generation to leave", 15)
                assert len(background.worker_pids()) == workers
                load.wait_for(100)
                fresh.wait_for(100)
    assert load.failures == []
    assert fresh.failures == []


def test_reload_keeps_what_the_start_was_given(background: Gateway) -> None:
    start(background)
    prefix = background.prefix
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PYLAE_"))}
    command = [str(COMMAND), "reload", "-p", str(prefix)]
    reloaded = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=30, check=False)
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
    assert raw.get(background.proxy_port, "/nothing").status == 404


def test_a_reload_with_bad_settings_is_refused(background: Gateway) -> None:
    pids = start(background)
    background.settings["plugins"] = "bundled,not-there"
    refused = background.command("reload")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: not reloaded: not-there plugin is enabled but not installed")
    assert raw.get(background.proxy_port, "/nothing").status == 404
    assert set(background.worker_pids()) <= set(pids)
    assert "not-there" not in (background.prefix / ".kong_env").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_in_the_foreground_it_ends_on_a_signal(number: signal.Signals) -> None:
    with Gateway() as gateway:
        assert gateway.process
        assert gateway.process.pid == gateway.supervisor_pid
        pids = gateway.tree()
        gateway.process.send_signal(number)
        assert gateway.process.wait(10) == 0
        assert not any(map(processes.is_alive, pids))


def test_logs_are_opened_anew(background: Gateway) -> None:
    start(background)
    raw.get(background.proxy_port, "/before")
    log = background.prefix / "logs" / "access.log"
    until(lambda: "/before" in log.read_text(), "the first line")
    log.rename(log.with_suffix(".1"))
    processes.send(background.supervisor_pid, signal.SIGUSR1)
    old = str(log.with_suffix(".1"))
    until(
        lambda: not any(old in processes.open_files(pid) for pid in background.worker_pids()),
        "each worker to let go of the old file",
    )
    raw.get(background.proxy_port, "/after")
    until(lambda: "/after" in log.read_text(), "a line in the new file")


def test_check_prints_each_error_on_a_line(background: Gateway, tmp_path: Path) -> None:
    conf = tmp_path / "pylae.conf"
    conf.write_text("log_level = debug\n")
    checked = background.command("check", str(conf))
    assert (checked.returncode, checked.stdout) == (0, f"configuration at {conf} is valid\n")
    conf.write_text("role = loud\ntrusted_ips = nonsense\n")
    checked = background.command("check", str(conf))
    assert (checked.returncode, checked.stdout) == (1, "")
    assert len(checked.stderr.splitlines()) == 2
    conf.write_text("log_levle = debug\n")
    checked = background.command("check", str(conf))
    assert checked.returncode == 1
    assert "log_level" in checked.stderr


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("database = postgres", "`database = postgres` is not there yet; hint: `database = sqlite`"),
        ("plugins = bundled, not-there", "not-there plugin is enabled but not installed"),
        ("admin_listen = 0.0.0.0:8001", "admin_listen 0.0.0.0:8001 can be reached from beyond this machine"),
        ("database = off\ndeclarative_config = /nowhere.yml", "error parsing declarative config file /nowhere.yml"),
    ],
)
def test_check_and_start_refuse_the_same_with_the_same_words(tmp_path: Path, settings: str, complaint: str) -> None:
    conf = tmp_path / "pylae.conf"
    conf.write_text(f"prefix = {tmp_path}/p\nproxy_listen = 127.0.0.1:{free_port()}\nstatus_listen = off\n{settings}\n")
    if "admin_listen" not in settings:
        conf.write_text(f"{conf.read_text()}admin_listen = 127.0.0.1:{free_port()}\n")
    for words in (["check", str(conf)], ["start", "-c", str(conf)]):
        done = outside(*words)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.removeprefix("Error: ").startswith(complaint)


def outside(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command from a shell that has no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONG_", "PYLAE_"))}
    return subprocess.run([COMMAND, *words], env=kept | variables, capture_output=True, text=True, timeout=30, check=False)


def test_a_restart_does_not_open_the_admin_api_by_accident(background: Gateway, tmp_path: Path) -> None:
    background.variables["PYLAE_ADMIN_AUTH_TOKEN"] = "a-long-secret"
    start(background)
    del background.variables["PYLAE_ADMIN_AUTH_TOKEN"]
    conf = tmp_path / "pylae.conf"
    conf.write_text("log_level = info\n")
    for words in (["restart"], ["reload", "-c", str(conf)]):
        refused = background.command(*words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("Error: the running gateway was given admin_auth_token, and these settings have none:")
    assert background.admin.call("GET", "/services").status == 401
    forced = background.command("restart", "--force")
    assert (forced.returncode, forced.stdout) == (0, "Pylae started\n")
    assert forced.stderr.startswith("Warning: the running gateway was given admin_auth_token, which these settings do not name")
    assert background.admin.call("GET", "/services").status == 200


def test_a_reader_that_leaves_ends_the_command_quietly(background: Gateway) -> None:
    codes = {"version": 141, "help": 141, "health": 141, "nonsense": 1}
    for words, code in codes.items():
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as nobody:
            done = subprocess.run(
                [COMMAND, words],
                env=background.environment(),
                stdout=nobody,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                check=False,
            )
        assert "Traceback" not in done.stderr, words
        assert "BrokenPipe" not in done.stderr, words
        assert done.returncode == code, words


def test_a_declarative_file_may_come_through_a_pipe(background: Gateway) -> None:
    for text, code in (('_format_version: "3.0"\n', 0), ('_format_version: "3.0"\nservices: 3\n', 1)):
        done = subprocess.run(
            [COMMAND, "config", "parse", "-"],
            env=background.environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == code
        assert ("parse successful" if code == 0 else "Failed parsing:") in done.stdout + done.stderr


def test_an_output_that_cannot_be_written_is_said(background: Gateway) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMAND, "version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the output can't be written: No space left on device\n")
    assert "Exception" not in done.stderr


def test_version(background: Gateway) -> None:
    assert background.command("version").stdout == f"{__version__}\n"
    assert "Kong: 3.10.0" in background.command("version", "-a").stdout


@pytest.mark.parametrize("words", [("nonsense",), ("start", "--nonsense"), ("quit", "-t", "soon"), ()])
def test_a_bad_command_line_exits_with_1_and_prints_the_usage(background: Gateway, words: tuple[str, ...]) -> None:
    done = background.command(*words)
    assert done.returncode == 1
    assert "usage" in f"{done.stdout}{done.stderr}".lower()


def test_help(background: Gateway) -> None:
    shown = background.command("help")
    assert shown.returncode == 0
    assert "restart" in shown.stdout
    of_start = background.command("start", "--help")
    assert of_start.returncode == 0
    assert "--conf" in of_start.stdout


def test_a_taken_port_does_not_hide_behind_reuseport(background: Gateway) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", background.proxy_port))
        other.listen()
        refused = background.command("start")
    assert refused.returncode == 1
    assert "Address already in use" in refused.stderr


def test_a_gateway_does_not_start_without_a_plugin_that_its_configuration_uses(background: Gateway) -> None:
    start(background)
    with Origin(late(0)) as origin:
        path = Blueprints(background).plugged(origin, "key-auth")
    assert background.get(path).status == 401
    background.settings["plugins"] = "rate-limiting"
    reloaded = background.command("reload")
    assert reloaded.returncode == 1
    assert "`key-auth`: plugin is in use but not enabled" in reloaded.stderr
    assert background.get(path).status == 401
    background.command("stop")
    started = background.command("start")
    assert started.returncode == 1
    assert "`key-auth`: plugin is in use but not enabled" in started.stderr
    background.settings["plugins"] = "bundled"
    assert background.command("start").returncode == 0
    assert background.get(path).status == 401
