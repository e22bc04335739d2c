# SPDX-License-Identifier: Apache-2.0
"""What happens to requests of a Route whose plugin can be configured, but has no work in this version?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.wait import until

CONFIGURED = "is configured, but its work is not part of this version"
GUARDS: dict[str, dict[str, Any]] = {
    "redirect": {"location": "https://elsewhere.test"},
    "proxy-cache": {"strategy": "memory"},
    "request-size-limiting": {},
    "correlation-id": {},
}
OBSERVERS: dict[str, dict[str, Any]] = {
    "file-log": {"path": "/dev/null"},
    "udp-log": {"host": "127.0.0.1", "port": 9},
    "prometheus": {},
    "zipkin": {},
}


@pytest.mark.parametrize("name", GUARDS)
def test_a_request_that_nobody_guards_is_refused(gateway: Gateway, blueprints: Blueprints, echo: Origin, name: str) -> None:
    path = blueprints.plugged(echo, name, **GUARDS[name])
    reply = gateway.get(path, "Accept: application/json")
    assert reply.status == 500
    assert json.loads(reply.body) == {"message": "An unexpected error occurred", "request_id": reply.request_id}
    assert not echo.requests
    said = until(
        lambda: [line for line in gateway.error_log.lines() if "[error]" in line and reply.request_id in line],
        "the worker's line of the error log",
    )
    assert len(said) == 1
    assert f"the plugin `{name}` {CONFIGURED}" in said[0]
    assert "the request is refused" in said[0]
    record = until(lambda: [one for one in gateway.failures.records() if one["request_id"] == reply.request_id], "the record")[0]
    assert (record["fault"], record["side"]) == ("plugin_failed", "gateway")
    assert f"`{name}`" in record["phrase"]


@pytest.mark.parametrize("name", OBSERVERS)
def test_a_request_that_was_only_to_be_watched_passes(gateway: Gateway, blueprints: Blueprints, echo: Origin, name: str) -> None:
    path = blueprints.plugged(echo, name, **OBSERVERS[name])
    gateway.error_log.mark()
    assert [gateway.get(path).status for _ in range(3)] == [200, 200, 200]
    assert len(echo.requests) == 3
    warned = until(lambda: [line for line in gateway.error_log.lines() if f"`{name}`" in line], "the warning")
    assert len(warned) == 1
    assert f"the plugin `{name}` {CONFIGURED}: nothing is sent" in warned[0]
    assert "[warn]" in warned[0]


def test_a_plugin_that_runs_earlier_still_does_its_work(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("key-auth", route, "route")
    blueprints.plugin("redirect", route, "route", location="https://elsewhere.test")
    gateway.settle()
    assert gateway.get(route["paths"][0]).status == 401


def test_whoever_configures_it_is_told(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    plugin = blueprints.plugin("redirect", route, "route", location="https://elsewhere.test")
    told = until(lambda: [line for line in gateway.error_log.lines() if "`redirect`" in line], "the warning")
    assert f"the plugin `redirect` {CONFIGURED}" in told[0]
    assert "[warn]" in told[0]
    gateway.error_log.mark()
    gateway.admin.call("PATCH", f"/plugins/{plugin['id']}", {"config": {"location": "https://another.test"}})
    until(lambda: [line for line in gateway.error_log.lines() if "`redirect`" in line], "the warning after a change")


def test_a_route_without_it_is_served(gateway: Gateway, echo_path: str) -> None:
    assert gateway.get(echo_path).status == 200


def test_a_client_sees_all_plugins(gateway: Gateway) -> None:
    available = gateway.admin.get("/")["plugins"]["available_on_server"]
    assert len(available) == 51, "Kong's 45, four that it sells, auth-damping and resilience"
    assert available["redirect"] == {"version": "3.10.0", "priority": 779}
    assert set(gateway.admin.get("/plugins/enabled")["enabled_plugins"]) == set(available)
