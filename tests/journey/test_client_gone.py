# SPDX-License-Identifier: Apache-2.0
"""Is a client's departure, in whatever phase, one access line, one log hook, and nothing left behind?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, FullBacklog, Origin
from tests.support.raw import Client, request
from tests.support.wait import holds_for, until

# Kept upstream connections go soon, so that what is counted at the end is what leaked.
SETTINGS = {"plugins": "bundled,probe", "upstream_keepalive_idle_timeout": 1}

MakeOrigin = Callable[[Behaviour], Origin]


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """Where the probe's log hooks leave their lines."""
    return tmp_path / "hooks.jsonl"


def read(hooks: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in hooks.read_text().splitlines()] if hooks.exists() else []


def logged(hooks: Path) -> list[dict[str, Any]]:
    return [entry for entry in read(hooks) if "status" in entry]


@pytest.fixture
def nothing_leaks(gateway: Gateway) -> Iterator[None]:
    """The worker's sockets are as many after the test as before, and so are the connections it counts."""
    (worker,) = gateway.worker_pids()
    before = _sockets(worker)
    yield
    until(lambda: _sockets(worker) <= before, f"sockets to be closed, at first there were {before}")
    until(lambda: gateway.status()["server"]["connections_active"] <= 1, "the count of active connections to fall")


def _sockets(pid: int) -> int:
    return sum(file.startswith("socket:") for file in processes.open_files(pid))


def one_line(gateway: Gateway, hooks: Path, status: int) -> None:
    """Exactly one access line and one log hook, both with this status."""
    (line,) = gateway.access_log.wait_for("kong_request_id")
    assert f'" {status} ' in line, line
    until(lambda: logged(hooks), "the log hook")
    holds_for(lambda: len(gateway.access_log.lines()) == len(logged(hooks)) == 1, "a second line or hook", 0.3)
    assert logged(hooks)[0]["status"] == status
    assert logged(hooks)[0]["id"] in line


def silent_until_gone(connection: Connection) -> None:
    connection.read_head()
    connection.wait_gone()


@pytest.mark.usefixtures("nothing_leaks")
def test_a_connection_without_a_request_leaves_no_line(gateway: Gateway) -> None:
    gateway.connect().close()
    gateway.connect().reset()
    # The line of a request before this test may still come; one of no request has no protocol in it.
    holds_for(lambda: all(" HTTP/1." in line for line in gateway.access_log.lines()), "an access line for no request", 0.3)


@pytest.mark.usefixtures("nothing_leaks")
def test_a_client_that_leaves_in_its_head_is_no_request_yet(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(f"GET {echo_path} HTTP/1.1\r\nHost: a\r\nX-".encode())
    until(lambda: gateway.status()["server"]["connections_active"] <= 1, "the connection to be forgotten")
    lines = gateway.access_log.lines()
    assert len(lines) <= 1, lines
    assert all('" 400 0 ' in line or '" 499 0 ' in line for line in lines)


@pytest.mark.usefixtures("nothing_leaks")
def test_while_its_body_is_read(gateway: Gateway, blueprints: Blueprints, echo: Origin, hooks: Path) -> None:
    path = blueprints.plugged(echo, "probe", file=str(hooks))
    with gateway.connect() as client:
        client.send(request("POST", path, "Content-Length: 100000") + b"x" * 50_000)
    (line,) = gateway.access_log.wait_for("kong_request_id")
    # nginx answers a body that broke off with 400, which nobody reads; a client that left is 499 to us
    assert '" 499 ' in line or '" 400 ' in line
    until(lambda: len(logged(hooks)) == 1, "the log hook")
    assert not echo.requests, "a request that never came whole went upstream"
    assert not list((gateway.prefix / "spool").glob("*")), "the spilled half of a body was left behind"


@pytest.mark.usefixtures("nothing_leaks")
def test_while_a_plugin_waits(gateway: Gateway, blueprints: Blueprints, echo: Origin, hooks: Path) -> None:
    path = blueprints.plugged(echo, "probe", does="wait", ms=20_000, file=str(hooks))
    with gateway.connect() as client:
        client.send(request("GET", path))
        until(lambda: gateway.status()["server"]["connections_active"] >= 1, "the request to arrive")
        assert client.is_silent(0.1)
    one_line(gateway, hooks, 499)
    assert {"cancelled": True} in read(hooks), "the plugin's task was not cancelled"
    assert not echo.requests


@pytest.mark.usefixtures("nothing_leaks")
def test_while_the_gateway_connects(gateway: Gateway, blueprints: Blueprints, hooks: Path) -> None:
    full = FullBacklog()
    path = blueprints.plugged(f"http://127.0.0.1:{full.port}/", "probe", file=str(hooks))
    with gateway.connect() as client:
        client.send(request("GET", path))
        assert client.is_silent(0.2)
    one_line(gateway, hooks, 499)
    full.stop()


@pytest.mark.usefixtures("nothing_leaks")
def test_while_the_upstream_thinks(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, hooks: Path) -> None:
    origin = make_origin(silent_until_gone)
    path = blueprints.plugged(origin, "probe", file=str(hooks))
    with gateway.connect() as client:
        client.send(request("GET", path))
        origin.wait_requests(1)
    one_line(gateway, hooks, 499)
    origin.wait_idle()
    assert origin.connections == 1, "a departed client's request was tried again"


@pytest.mark.usefixtures("nothing_leaks")
def test_reset_while_the_upstream_thinks(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, hooks: Path) -> None:
    origin = make_origin(silent_until_gone)
    path = blueprints.plugged(origin, "probe", file=str(hooks))
    client = gateway.connect().send(request("GET", path))
    origin.wait_requests(1)
    client.reset()
    one_line(gateway, hooks, 499)
    origin.wait_idle()


@pytest.mark.usefixtures("nothing_leaks")
def test_while_its_streamed_body_goes_upstream(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, hooks: Path
) -> None:
    origin = make_origin(silent_until_gone)
    path = blueprints.plugged(origin, "probe", route={"request_buffering": False}, file=str(hooks))
    with gateway.connect() as client:
        client.send(request("POST", path, "Content-Length: 1000") + b"half")
        origin.wait_requests(1)
    (line,) = gateway.access_log.wait_for("kong_request_id")
    assert '" 499 ' in line or '" 400 ' in line
    until(lambda: len(logged(hooks)) == 1, "the log hook")
    origin.wait_idle()


@pytest.mark.usefixtures("nothing_leaks")
@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["fin", "rst"])
def test_in_the_middle_of_the_answer(
    gateway: Gateway,
    blueprints: Blueprints,
    make_origin: MakeOrigin,
    hooks: Path,
    leave: Callable[[Client], None],
) -> None:
    def endless(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(b"400\r\n" + b"x" * 1024 + b"\r\n")

    origin = make_origin(endless)
    path = blueprints.plugged(origin, "probe", file=str(hooks))
    client = gateway.connect().send(request("GET", path))
    client.read_exactly(10_000)
    leave(client)
    origin.wait_idle()
    one_line(gateway, hooks, 200)  # nginx keeps the status that was sent


@pytest.mark.usefixtures("nothing_leaks")
def test_while_the_upstream_pauses_in_the_answer(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, hooks: Path
) -> None:
    def half(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.wait_gone()

    origin = make_origin(half)
    path = blueprints.plugged(origin, "probe", file=str(hooks))
    client = gateway.connect().send(request("GET", path))
    client.read_until(b"half")
    client.reset()
    origin.wait_idle()
    one_line(gateway, hooks, 200)


@pytest.mark.usefixtures("nothing_leaks")
def test_between_two_requests_is_no_event(gateway: Gateway, blueprints: Blueprints, echo: Origin, hooks: Path) -> None:
    path = blueprints.plugged(echo, "probe", file=str(hooks))
    with gateway.connect() as client:
        client.send(request("GET", path)).read_reply()
    one_line(gateway, hooks, 200)


def test_a_hundred_departures_leave_no_task(gateway: Gateway, blueprints: Blueprints, echo: Origin, hooks: Path) -> None:
    waiting = blueprints.plugged(echo, "probe", does="wait", ms=20_000, file=str(hooks))
    passing = blueprints.plugged(echo, "probe", file=str(hooks))
    for _ in range(100):
        with gateway.connect() as client:
            client.send(request("GET", waiting))
            assert client.is_silent(0.002)
    gateway.access_log.wait_for('" 499 ', 100)
    until(lambda: len(logged(hooks)) == 100, "a log hook for each")
    assert gateway.get(passing).status == 200
    until(lambda: len(logged(hooks)) == 101, "the last log hook")
    assert logged(hooks)[-1]["tasks"] <= 5, "tasks of departed clients still live"


def test_half_closed_clients_get_their_answer(gateway: Gateway, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(request("GET", echo_path, "Connection: close")).finish_sending()
        until(lambda: gateway.access_log.lines(), "the access line")
    # FIN after a whole request is a departure to nginx (499) and half a close to others; one line either way
    assert len(gateway.access_log.lines()) == 1
