# SPDX-License-Identifier: Apache-2.0
"""Do the five bundled plugins, and one of a user's own, do their work in a real gateway with two workers?"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.log_collector import LogCollector
from tests.support.origin import Behaviour, Connection, Origin, answer
from tests.support.raw import request
from tests.support.wait import holds_for, until

SETTINGS = {"plugins": "bundled,probe"}
WORKERS = 2

MakeOrigin = Callable[[Behaviour], Origin]


# === key-auth ===


@pytest.fixture(scope="module")
def protected(blueprints: Blueprints, echo: Origin) -> str:
    return blueprints.plugged(echo, "key-auth")


@pytest.fixture(scope="module")
def alice(blueprints: Blueprints) -> dict[str, Any]:
    return blueprints.consumer(username="alice", custom_id="a-1")


@pytest.fixture(scope="module")
def key(blueprints: Blueprints, alice: dict[str, Any]) -> str:
    return blueprints.key(alice)


def test_the_right_key_passes_and_names_the_consumer(
    gateway: Gateway, echo: Origin, protected: str, alice: dict[str, Any], key: str
) -> None:
    for _ in range(4):
        assert gateway.get(protected, f"apikey: {key}", "X-Consumer-Username: forged").status == 200
        assert echo.last.header("X-Consumer-ID") == alice["id"]
        assert echo.last.header("X-Consumer-Username") == "alice"
        assert echo.last.header("X-Consumer-Custom-ID") == "a-1"
        assert echo.last.header("X-Credential-Identifier")
        assert echo.last.header("X-Anonymous-Consumer") is None


def test_a_key_in_the_query_passes_too(gateway: Gateway, protected: str, key: str) -> None:
    assert gateway.get(f"{protected}?apikey={key}").status == 200


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "No API key found in request"),
        (("apikey: ",), "No API key found in request"),
        (("apikey: wrong",), "Unauthorized"),
        (("apikey: a", "apikey: b"), "Duplicate API key found"),
    ],
    ids=["none", "empty", "wrong", "two"],
)
def test_a_wrong_key_is_refused(gateway: Gateway, echo: Origin, protected: str, lines: tuple[str, ...], message: str) -> None:
    reply = gateway.get(protected, "Accept: application/json", *lines)
    assert reply.status == 401
    assert reply.header("WWW-Authenticate") == "Key"
    assert json.loads(reply.body) == {"message": message, "request_id": reply.request_id}
    assert not echo.requests


def test_credentials_are_hidden_when_told(gateway: Gateway, blueprints: Blueprints, echo: Origin, key: str) -> None:
    path = blueprints.plugged(echo, "key-auth", hide_credentials=True)
    assert gateway.get(f"{path}?a=1&apikey={key}").status == 200
    assert echo.last.target == "/?a=1"
    assert gateway.get(path, f"apikey: {key}").status == 200
    assert echo.last.header("apikey") is None


def test_a_key_in_the_body_is_found(gateway: Gateway, blueprints: Blueprints, echo: Origin, key: str) -> None:
    path = blueprints.plugged(echo, "key-auth", key_in_body=True)
    form = request("POST", path, "Content-Type: application/x-www-form-urlencoded", body=f"a=1&apikey={key}".encode())
    assert gateway.send(form).status == 200
    assert echo.last.body == f"a=1&apikey={key}".encode()


def test_the_anonymous_consumer_passes_as_such(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    nobody = blueprints.consumer(username="nobody")
    path = blueprints.plugged(echo, "key-auth", anonymous=nobody["id"])
    assert gateway.get(path).status == 200
    assert echo.last.header("X-Anonymous-Consumer") == "true"
    assert echo.last.header("X-Consumer-Username") == "nobody"


def test_a_key_dies_with_its_time(gateway: Gateway, blueprints: Blueprints, protected: str) -> None:
    consumer = blueprints.consumer()
    gateway.admin.post(f"/consumers/{consumer['id']}/key-auth", {"key": "short-lived", "ttl": 2})
    assert {gateway.get(protected, "apikey: short-lived").status for _ in range(6)} == {200}
    until(lambda: gateway.get(protected, "apikey: short-lived").status == 401, "the key to expire", 6)


# === rate-limiting ===


def test_a_limit_is_shared_by_both_workers(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "rate-limiting", hour=10)
    statuses = [gateway.get(path).status for _ in range(20)]
    assert statuses == [200] * 10 + [429] * 10


def test_a_limit_holds_when_all_come_at_once(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = blueprints.plugged(make_origin(answer(b"ok")), "rate-limiting", hour=25)
    statuses: list[int] = []
    start = threading.Barrier(16)

    def rush() -> None:
        start.wait(10)
        for _ in range(5):
            statuses.append(gateway.get(path).status)

    threads = [threading.Thread(target=rush) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statuses.count(200), statuses.count(429)) == (25, 55)


def test_what_a_limited_client_is_told(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "rate-limiting", hour=2, day=100)
    first = gateway.get(path)
    assert first.header("X-RateLimit-Limit-Hour") == "2"
    assert first.header("X-RateLimit-Remaining-Hour") == "1"
    assert first.header("X-RateLimit-Limit-Day") == "100"
    assert first.header("X-RateLimit-Remaining-Day") == "99"
    assert (first.header("RateLimit-Limit"), first.header("RateLimit-Remaining")) == ("2", "1")
    gateway.get(path)
    refused = gateway.get(path, "Accept: application/json")
    assert refused.status == 429
    assert refused.header("Retry-After") == refused.header("RateLimit-Reset")
    assert 1 <= int(refused.header("Retry-After") or 0) <= 3600
    assert json.loads(refused.body)["message"] == "API rate limit exceeded"


def test_each_consumer_has_a_limit_of_its_own(gateway: Gateway, blueprints: Blueprints, echo: Origin, key: str) -> None:
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("key-auth", route, "route")
    blueprints.plugin("rate-limiting", route, "route", hour=1)
    other = blueprints.key(blueprints.consumer())
    gateway.settle()
    path = route["paths"][0]
    assert [gateway.get(path, f"apikey: {one}").status for one in (key, other, key, other)] == [200, 200, 429, 429]


def test_what_a_later_issue_owns_is_refused_by_name(gateway: Gateway) -> None:
    for policy in ("cluster", "redis"):
        config = {"minute": 1, "policy": policy, "redis": {"host": "localhost"}}
        refused = gateway.admin.call("POST", "/plugins", {"name": "rate-limiting", "config": config})
        assert refused.status == 400
        assert policy in refused.json["message"]


# === request-transformer and response-transformer ===


def test_the_request_is_transformed(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(
        echo,
        "request-transformer",
        http_method="PUT",
        remove={"headers": ["X-Gone"], "querystring": ["gone"], "body": ["gone"]},
        rename={"headers": ["X-Old:X-New"], "querystring": ["old:new"]},
        replace={"headers": ["X-There:replaced", "X-Absent:no"], "uri": "/other"},
        add={"headers": ["X-Added:yes", "X-There:no"], "querystring": ["added:1"], "body": ["added:2"]},
        append={"headers": ["X-There:more"]},
    )
    lines = ("X-Gone: 1", "X-Old: 2", "X-There: 3", "Content-Type: application/json")
    body = b'{"gone": 1, "kept": true}'
    assert gateway.send(request("POST", path + "/p?gone=1&old=2", *lines, body=body)).status == 200
    sent = echo.last
    assert sent.method == "PUT"
    assert sent.target.partition("?")[0] == "/other"
    assert sorted(sent.target.partition("?")[2].split("&")) == ["added=1", "new=2"]
    assert sent.header("X-Gone") is None
    assert (sent.header("X-New"), sent.header("X-Old")) == ("2", None)
    assert ", ".join(sent.all("X-There")) == "replaced, more"
    assert sent.header("X-Absent") is None
    assert sent.header("X-Added") == "yes"
    assert json.loads(sent.body) == {"kept": True, "added": "2"}
    assert sent.header("Content-Length") == str(len(sent.body))


def test_the_response_is_transformed(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(answer(b'{"gone": 1, "old": 2}', "Content-Type: application/json", "X-Gone: 1", "X-Old: 2"))
    path = blueprints.plugged(
        origin,
        "response-transformer",
        remove={"headers": ["X-Gone"], "json": ["gone"]},
        rename={"headers": ["X-Old:X-New"], "json": ["old:new"]},
        add={"headers": ["X-Added:yes"], "json": ["added:3"], "json_types": ["number"]},
    )
    with gateway.connect() as client:
        for _ in range(2):
            reply = client.send(request("GET", path)).read_reply()
            assert reply.header("X-Gone") is None
            assert (reply.header("X-New"), reply.header("X-Added")) == ("2", "yes")
            assert json.loads(reply.body) == {"new": 2, "added": 3}


def test_templates_are_refused_until_they_can_be_rendered(gateway: Gateway) -> None:
    config = {"add": {"headers": ["X-A:$(headers['x'])"]}}
    refused = gateway.admin.call("POST", "/plugins", {"name": "request-transformer", "config": config})
    assert refused.status == 400


# === http-log ===


def test_every_request_is_logged_in_kong_s_shape(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: MakeOrigin
) -> None:
    collector = LogCollector()
    endpoint = make_origin(collector)
    path = blueprints.plugged(echo, "http-log", http_endpoint=endpoint.url)
    reply = gateway.get(path + "/a?b=c", "X-Mine: 1", "Authorization: Basic secret", host="shop.test")
    (entry,) = until(lambda: collector.entries, "the log entry")
    assert collector.types[0] == "application/json"
    assert entry["request"]["id"] == reply.request_id
    assert entry["request"]["uri"] == f"{path}/a?b=c"
    assert entry["request"]["url"] == f"http://shop.test:{gateway.proxy_port}{path}/a?b=c"
    assert entry["request"]["method"] == "GET"
    assert entry["request"]["querystring"] == {"b": "c"}
    assert entry["request"]["headers"]["x-mine"] == "1"
    assert entry["request"]["headers"]["authorization"] == "REDACTED"
    assert entry["response"]["status"] == 200
    assert entry["upstream_uri"] == "/a?b=c"
    assert entry["upstream_status"] in (200, "200")
    assert entry["client_ip"] == "127.0.0.1"
    assert entry["source"] == "upstream"
    assert {"kong", "proxy", "request", "receive"} <= entry["latencies"].keys()
    assert entry["tries"][0]["ip"] == "127.0.0.1"
    assert entry["tries"][0]["port"] == echo.port
    assert entry["service"]["host"] == "127.0.0.1"
    assert entry["route"]["paths"] == [path]
    assert isinstance(entry["started_at"], int)


def test_entries_leave_in_batches_from_both_workers(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: MakeOrigin
) -> None:
    collector = LogCollector()
    endpoint = make_origin(collector)
    queue = {"max_batch_size": 50, "max_coalescing_delay": 0.5}
    path = blueprints.plugged(echo, "http-log", http_endpoint=endpoint.url, queue=queue)
    ids = {gateway.get(path).request_id for _ in range(100)}
    until(lambda: len(collector.entries) >= 100, "a hundred entries", 10)
    assert {entry["request"]["id"] for entry in collector.entries} == ids
    assert len(collector.calls) < 50, "entries left one by one"


def test_a_refused_batch_is_sent_again(gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: MakeOrigin) -> None:
    collector = LogCollector(refusals=3)
    path = blueprints.plugged(echo, "http-log", http_endpoint=make_origin(collector).url)
    sent = gateway.get(path).request_id
    until(lambda: [entry for entry in collector.entries if entry["request"]["id"] == sent], "the entry", 10)
    holds_for(lambda: len(collector.entries) == 1, "the entry came twice", 0.3)


def test_a_collector_that_is_gone_holds_no_request(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: MakeOrigin
) -> None:
    def black_hole(connection: Connection) -> None:
        connection.wait_gone(30)

    path = blueprints.plugged(echo, "http-log", http_endpoint=make_origin(black_hole).url)
    with gateway.connect() as client:
        for _ in range(200):
            assert client.send(request("GET", path)).read_reply().status == 200


def test_custom_fields_by_lua_are_refused(gateway: Gateway) -> None:
    config = {"http_endpoint": "http://localhost/", "custom_fields_by_lua": {"a": "return 1"}}
    refused = gateway.admin.call("POST", "/plugins", {"name": "http-log", "config": config})
    assert refused.status == 400
    assert "custom_fields_by_lua" in json.dumps(refused.json)


# === a plugin of one's own ===


def test_a_user_s_own_file_answers(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "probe", does="answer")
    reply = gateway.get(path)
    assert (reply.status, json.loads(reply.body)) == (418, {"probe": "access"})
    assert reply.header("Content-Type") == "application/json; charset=utf-8"
    assert reply.header("X-Probe") == "filtered", "the header filter runs on a plugin's own answer too"
    assert not echo.requests


def test_its_schema_is_checked_like_any_other(gateway: Gateway) -> None:
    refused = gateway.admin.call("POST", "/plugins", {"name": "probe", "config": {"does": "dance"}})
    assert refused.status == 400
    assert "expected one of" in refused.json["message"]


@contextlib.contextmanager
def everywhere(gateway: Gateway, blueprints: Blueprints, **config: Any) -> Iterator[None]:
    """The probe on every request, for a while."""
    plugin = blueprints.plugin("probe", **config)
    gateway.settle()
    yield
    gateway.admin.delete(f"/plugins/{plugin['id']}")
    gateway.settle()


def test_a_global_plugin_may_answer_before_a_route_is_looked_for(gateway: Gateway, blueprints: Blueprints) -> None:
    with everywhere(gateway, blueprints, phase="rewrite", does="answer"):
        assert gateway.get("/-/no-route").status == 418
    assert gateway.get("/-/no-route").status == 404


def test_a_global_plugin_logs_what_matched_no_route(gateway: Gateway, blueprints: Blueprints, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    with everywhere(gateway, blueprints, file=str(hooks)):
        reply = gateway.get("/-/no-route")
        assert reply.header("X-Probe") == "filtered"
        until(hooks.exists, "the log hook")
    assert json.loads(hooks.read_text())["status"] == 404


def test_plugins_run_in_falling_priority(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    """probe (1500) answers before key-auth (1250) asks for a key."""
    route = blueprints.route(blueprints.service(echo))
    blueprints.plugin("key-auth", route, "route")
    blueprints.plugin("probe", route, "route", does="answer")
    gateway.settle()
    assert gateway.get(route["paths"][0]).status == 418


def test_a_plugin_that_waits_only_delays_its_own(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.plugged(echo, "probe", does="wait", ms=50)
    assert gateway.get(path).status == 200
    assert len(echo.requests) == 1
