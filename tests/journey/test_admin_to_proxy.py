# SPDX-License-Identifier: Apache-2.0
"""Do the lines that a newcomer types work as they are written, and does every change reach the traffic?"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.admin import Admin
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good
from tests.support.raw import request
from tests.support.servers.server import find
from tests.support.wait import until

WORKERS = 2


class Typed:
    """Runs command lines as written, with this gateway's ports in the place of the usual ones."""

    def __init__(self, gateway: Gateway, origin: Origin) -> None:
        self.ports = {":8000": gateway.proxy_port, ":8001": gateway.admin_port, ":8080": origin.port}

    def __call__(self, line: str) -> str:
        for usual, ours in self.ports.items():
            line = line.replace(usual, f":{ours}")
        words = shlex.split(line)
        words[0] = find(words[0]) or words[0]
        return subprocess.run(words, capture_output=True, check=True, timeout=20).stdout.decode()


@pytest.fixture(scope="module")
def typed(gateway: Gateway, echo: Origin) -> Typed:
    assert find("curl"), "curl is not installed; hint: scripts/test-packages.sh"
    return Typed(gateway, echo)


@pytest.fixture(scope="module")
def first_route(typed: Typed) -> list[str]:
    """The issue's lines, in order; their outputs."""
    return [
        typed("curl -i -X POST http://localhost:8001/services --data name=upstream-service --data url=http://127.0.0.1:8080"),
        typed("curl -i -X POST http://localhost:8001/services/upstream-service/routes --data 'paths[]=/api'"),
        typed("curl -i --retry 5 --retry-all-errors http://localhost:8000/api/orders"),
        typed("curl -s http://localhost:8001/services/upstream-service"),
        typed("curl -s http://localhost:8001/routes"),
    ]


def test_the_service_is_created(first_route: list[str]) -> None:
    assert first_route[0].startswith("HTTP/1.1 201 Created\r\n")
    assert "Access-Control-Allow-Origin: *" not in first_route[0]


def test_the_route_is_created(first_route: list[str]) -> None:
    head, _, body = first_route[1].partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 201 Created")
    assert json.loads(body)["paths"] == ["/api"]


def test_the_first_request_passes(first_route: list[str]) -> None:
    assert "HTTP/1.1 200 OK" in first_route[2]
    assert "GET /orders HTTP/1.1" in first_route[2], "the origin's echo"


def test_the_service_shows_what_the_url_meant(first_route: list[str], echo: Origin) -> None:
    service = json.loads(first_route[3])
    assert (service["host"], service["port"], service["protocol"]) == ("127.0.0.1", echo.port, "http")


def test_the_routes_are_listed(first_route: list[str]) -> None:
    (route,) = json.loads(first_route[4])["data"]
    assert route["paths"] == ["/api"]


# === every change reaches the traffic ===


def status(gateway: Gateway, path: str, *lines: str) -> set[int]:
    """What the workers answer now; several connections, so that each is asked."""
    return {gateway.get(path, *lines).status for _ in range(8)}


def test_a_route_comes_changes_and_goes(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo), paths=["/come"])
    gateway.settle()
    assert status(gateway, "/come") == {200}
    gateway.admin.patch(f"/routes/{route['id']}", {"paths": ["/changed"]})
    gateway.settle()
    assert status(gateway, "/come") == {404}
    assert status(gateway, "/changed") == {200}
    gateway.admin.delete(f"/routes/{route['id']}")
    gateway.settle()
    assert status(gateway, "/changed") == {404}


def test_a_service_moves(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    with Origin(good) as other:
        service = blueprints.service(echo)
        path = blueprints.route(service)["paths"][0]
        gateway.settle()
        assert status(gateway, path) == {200}
        assert not other.requests
        gateway.admin.patch(f"/services/{service['id']}", {"url": other.url})
        gateway.settle()
        echo.forget()
        assert status(gateway, path) == {200}
        assert other.requests
        assert not echo.requests


def test_a_disabled_service_answers_nothing(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    service = blueprints.service(echo)
    path = blueprints.route(service)["paths"][0]
    gateway.admin.patch(f"/services/{service['id']}", {"enabled": False})
    gateway.settle()
    assert status(gateway, path) == {404}


def test_targets_come_and_go(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    upstream = blueprints.upstream()
    path = blueprints.path(f"http://{upstream['name']}/")
    assert status(gateway, path) == {503}
    target = gateway.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": f"127.0.0.1:{echo.port}"})
    gateway.settle()
    assert status(gateway, path) == {200}
    gateway.admin.delete(f"/upstreams/{upstream['id']}/targets/{target['id']}")
    gateway.settle()
    assert status(gateway, path) == {503}


def test_targets_share_by_weight(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    with Origin(good) as heavy:
        upstream = blueprints.upstream()
        for origin, weight in ((echo, 10), (heavy, 30)):
            gateway.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": f"127.0.0.1:{origin.port}", "weight": weight})
        path = blueprints.path(f"http://{upstream['name']}/")
        with gateway.connect() as client:  # one connection: one worker, one wheel
            for _ in range(40):
                assert client.send(request("GET", path)).read_reply().status == 200
        assert (len(echo.requests), len(heavy.requests)) == (10, 30)


def test_a_key_is_known_and_forgotten_by_every_worker(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "key-auth")
    consumer = blueprints.consumer()
    assert status(gateway, path, "apikey: later") == {401}, "so that the miss is cached everywhere"
    key = gateway.admin.post(f"/consumers/{consumer['id']}/key-auth", {"key": "later"})
    until(lambda: status(gateway, path, "apikey: later") == {200}, "the new key to be known")
    gateway.admin.delete(f"/consumers/{consumer['id']}/key-auth/{key['id']}")
    until(lambda: status(gateway, path, "apikey: later") == {401}, "the deleted key to be forgotten")


def test_a_plugin_is_turned_off(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    route = blueprints.route(blueprints.service(echo))
    plugin = blueprints.plugin("key-auth", route, "route")
    gateway.settle()
    assert status(gateway, route["paths"][0]) == {401}
    gateway.admin.patch(f"/plugins/{plugin['id']}", {"enabled": False})
    gateway.settle()
    assert status(gateway, route["paths"][0]) == {200}


PRECEDENCE = [
    ("global", ()),
    ("service", ("service",)),
    ("route", ("route",)),
    ("consumer", ("consumer",)),
    ("service+route", ("service", "route")),
    ("service+consumer", ("service", "consumer")),
    ("route+consumer", ("route", "consumer")),
    ("all three", ("service", "route", "consumer")),
]


@pytest.fixture
def eight(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """A path, a key, and a request-transformer in each of the eight scopes that adds its own name."""
    service = blueprints.service(echo)
    route = blueprints.route(service)
    consumer = blueprints.consumer()
    key = blueprints.key(consumer)
    blueprints.plugin("key-auth", route, "route")
    ids = {"service": service["id"], "route": route["id"], "consumer": consumer["id"]}
    plugins = [
        gateway.admin.post(
            "/plugins",
            {
                "name": "request-transformer",
                "config": {"add": {"headers": [f"X-Scope:{name}"]}},
                **{kind: {"id": ids[kind]} for kind in scope},
            },
        )
        for name, scope in PRECEDENCE
    ]
    yield route["paths"][0], key, plugins
    for plugin in plugins:
        gateway.admin.call("DELETE", f"/plugins/{plugin['id']}")


def test_the_narrowest_scope_wins(gateway: Gateway, echo: Origin, eight: tuple[str, str, list[dict[str, Any]]]) -> None:
    path, key, plugins = eight
    order = []
    while plugins:
        gateway.settle()
        assert gateway.get(path, f"apikey: {key}").status == 200
        order.append(echo.last.header("X-Scope"))
        won = next(plugin for plugin in plugins if f"X-Scope:{order[-1]}" in plugin["config"]["add"]["headers"])
        gateway.admin.delete(f"/plugins/{won['id']}")
        plugins.remove(won)
    assert order == [
        "all three",
        "route+consumer",
        "service+consumer",
        "service+route",
        "consumer",
        "route",
        "service",
        "global",
    ]


def test_the_root_says_both_versions(gateway: Gateway) -> None:
    root = gateway.admin.get("/")
    assert root["version"] == "3.10.0"
    assert root["pylae_version"]


def test_the_status_listener_serves_status_and_nothing_else(gateway: Gateway) -> None:
    status_api = Admin(gateway.status_port)
    assert status_api.call("GET", "/status").status == 200
    assert status_api.call("GET", "/services").status == 404
    status_api.close()


def test_no_web_page_drives_the_admin_api(gateway: Gateway) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for foreign in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = gateway.admin.call("POST", "/services", b"name=evil&url=http://evil.test", {**form, **foreign})
        assert answer.status == 403, foreign
    assert gateway.admin.call("GET", "/services", headers={"Host": "evil.test"}).status in (400, 403, 421)
    assert gateway.admin.call("GET", "/services/evil").status == 404
