# SPDX-License-Identifier: Apache-2.0
"""Do clients notice that the whole configuration is replaced?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.load import Load
from tests.support.origin import Origin, answer
from tests.support.wait import until

ROUTES = 1500
PUSHES = 6


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(answer(b"ok")) as started:
        yield started


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway({"database": "off"}, workers=2) as started:
        yield started


def configuration(origin: Origin, push: int) -> dict[str, Any]:
    """A Route that stays, and many that are others each time."""
    routes = [{"name": f"{push}-{n}", "paths": [f"/{push}/{n}"]} for n in range(ROUTES)]
    stays = {"name": "stays", "paths": ["/stays"]}
    return {"_format_version": "3.0", "services": [{"name": "s", "url": origin.url, "routes": [stays, *routes]}]}


def test_no_request_fails_while_the_configuration_is_replaced(gateway: Gateway, origin: Origin) -> None:
    gateway.admin.post("/config", configuration(origin, 0))
    gateway.settle()
    with Load(gateway.proxy_port, "/stays") as load, Load(gateway.proxy_port, "/stays", keep_alive=False, clients=2) as fresh:
        for push in range(1, PUSHES):
            gateway.admin.post("/config", configuration(origin, push))
            gateway.settle(10)
            assert gateway.get(f"/{push}/{ROUTES - 1}").status == 200
            assert gateway.get(f"/{push - 1}/0").status == 404
        load.wait_for(20)
    assert load.failures == []
    assert fresh.failures == []


def test_no_request_fails_while_a_wrong_one_is_refused(gateway: Gateway, origin: Origin) -> None:
    gateway.admin.post("/config", configuration(origin, 0))
    gateway.settle()
    wrong = configuration(origin, 1)
    wrong["services"][0]["routes"][-1]["paths"] = ["no slash"]
    with Load(gateway.proxy_port, "/0/7") as load:
        refused = gateway.admin.call("POST", "/config", wrong)
        assert refused.status == 400
        load.wait_for(20)
    assert load.failures == []


def test_no_request_fails_while_control_dies_with_a_configuration_in_hand(gateway: Gateway, origin: Origin) -> None:
    gateway.admin.post("/config", configuration(origin, 0))
    gateway.settle()
    killed = gateway.control_pid()
    with Load(gateway.proxy_port, "/stays") as load:
        os.kill(killed, signal.SIGKILL)
        until(lambda: _is_back(gateway, killed), "control to be back", 20)
        gateway.admin.post("/config", configuration(origin, 1))
        gateway.settle(10)
        load.wait_for(20)
    assert load.failures == []
    assert gateway.get("/1/1").status == 200


def test_changes_of_a_few_rows_go_out_as_such(gateway: Gateway, origin: Origin) -> None:
    values = configuration(origin, 0)
    gateway.admin.post("/config", values)
    before = gateway.status()["pylae"]["version"][1]
    values["services"][0]["routes"][5]["paths"] = ["/moved"]
    gateway.admin.post("/config", values)
    gateway.settle()
    assert gateway.status()["pylae"]["version"][1] == before + 1
    assert gateway.get("/moved").status == 200


def _is_back(gateway: Gateway, killed: int) -> bool:
    try:
        return gateway.control_pid() != killed and gateway.is_settled()
    except (OSError, AssertionError):
        return False


def guarded(origin: Origin, *keys: str) -> dict[str, Any]:
    """A Route that asks for a key, and a Consumer that has these."""
    route = {"name": "guarded", "paths": ["/guarded"], "plugins": [{"name": "key-auth"}]}
    consumer = {"username": "c", "keyauth_credentials": [{"key": key} for key in keys]}
    return {"_format_version": "3.0", "services": [{"name": "s", "url": origin.url, "routes": [route]}], "consumers": [consumer]}


def test_keys_come_and_go_with_the_configuration(gateway: Gateway, origin: Origin) -> None:
    def status(key: str) -> set[int]:
        # Of both workers: each remembers what it looked up, also what was not there.
        return {gateway.get("/guarded", f"apikey: {key}").status for _ in range(8)}

    gateway.admin.post("/config", guarded(origin, "first"))
    gateway.settle()
    assert (status("first"), status("second")) == ({200}, {401})
    gateway.admin.post("/config", guarded(origin, "second"))
    gateway.settle()
    assert (status("first"), status("second")) == ({401}, {200})


def test_keys_come_and_go_with_a_configuration_that_is_sent_whole(gateway: Gateway, origin: Origin) -> None:
    # More changes than are told one by one.
    many = [{"username": f"u{n}"} for n in range(10_001)]
    first, second = guarded(origin, "first"), guarded(origin, "second")
    gateway.admin.post("/config", first)
    gateway.settle()
    assert gateway.get("/guarded", "apikey: first").status == 200
    assert gateway.get("/guarded", "apikey: second").status == 401
    gateway.admin.post("/config", {**second, "consumers": [*second["consumers"], *many]})
    gateway.settle(10)
    assert gateway.get("/guarded", "apikey: first").status == 401
    assert gateway.get("/guarded", "apikey: second").status == 200


def living(origin: Origin, ttl_s: int | None) -> dict[str, Any]:
    """The same with one key that lives so long; its id stays."""
    values = guarded(origin)
    values["consumers"][0]["keyauth_credentials"] = [{"key": "k", "ttl": ttl_s}]
    return values


def test_a_key_that_was_for_ever_ends_when_it_is_declared_to(gateway: Gateway, origin: Origin) -> None:
    def status() -> set[int]:
        return {gateway.get("/guarded", "apikey: k").status for _ in range(8)}

    gateway.admin.post("/config", living(origin, None))
    gateway.settle()
    assert status() == {200}
    gateway.admin.post("/config", living(origin, 3))
    gateway.settle()
    assert status() == {200}
    until(lambda: status() == {401}, "the key to end", 10)
    # And back: workers remember by now that there is no such key.
    gateway.admin.post("/config", living(origin, 600))
    gateway.settle()
    assert status() == {200}


def test_a_key_that_was_renewed_outlives_control(gateway: Gateway, origin: Origin) -> None:
    values = living(origin, 600)
    gateway.admin.post("/config", values)
    gateway.settle()
    before = gateway.status()["pylae"]["version"][1]
    values["consumers"][0]["keyauth_credentials"][0]["ttl"] = 3000
    gateway.admin.post("/config", values)
    gateway.admin.post("/config", values)
    assert gateway.status()["pylae"]["version"][1] == before + 2
    killed = gateway.control_pid()
    os.kill(killed, signal.SIGKILL)
    until(lambda: _is_back(gateway, killed), "control to be back", 20)
    assert gateway.admin.get("/key-auths")["data"][0]["ttl"] > 2000
    assert gateway.get("/guarded", "apikey: k").status == 200
