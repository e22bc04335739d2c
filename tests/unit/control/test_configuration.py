# SPDX-License-Identifier: Apache-2.0
"""Is what control says of a request what workers would do with it?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pylae import _core, entities
from pylae.control.configuration import Configurations
from pylae.control.described import Undescribed, of_record
from pylae.control.feed import Feed
from pylae.database.changes import Change, Commit
from pylae.schema import schema_of
from pylae.sdk.loader import load

PLUGINS = load(["bundled"])
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    entities.enable_plugins(PLUGINS)
    yield
    entities.use_router_flavor("traditional_compatible")


def row(table: str, **values: Any) -> Row:
    filled = schema_of(entities.registry()[table]).insert(values)
    filled.pop("ttl", None)
    return filled


SERVICE = row("services", name="orders", host="orders.upstream", port=8080, path="/v1")
UPSTREAM = row("upstreams", name="orders.upstream")
TARGETS = [
    row("targets", target=f"192.0.2.{number}:80", weight=weight, upstream={"id": UPSTREAM["id"]})
    for number, weight in ((1, 100), (2, 0))
]
ROUTE = row("routes", name="orders", paths=["/orders"], methods=["GET"], service={"id": SERVICE["id"]})
CONSUMER = str(uuid.uuid4())


def feed_of(**rows: list[Row]) -> Feed:
    return Feed("db", 7, {"services": [SERVICE], "routes": [ROUTE], "upstreams": [UPSTREAM], "targets": TARGETS, **rows})


def configurations(feed: Feed, flavor: str = "traditional_compatible") -> Configurations:
    return Configurations(lambda: feed, PLUGINS, flavor, "kong")


def asked(path: str = "/orders/1", **more: Any) -> Row:
    return {"method": "GET", "scheme": "http", "host": "api.test", "path": path, "headers": [], "listen_port": 8000, **more}


def current(kept: Configurations) -> _core.Configuration:
    found = asyncio.run(kept.current())
    assert found is not None
    return found


def explained(feed: Feed, request: Row) -> Row:
    return current(configurations(feed)).explain(request)


# === what is said ===


def test_a_request_meets_route_service_upstream_and_path() -> None:
    found = explained(feed_of(), asked())
    assert found["route"] == {
        "id": ROUTE["id"],
        "name": "orders",
        "why": [{"condition": "methods", "value": "GET"}, {"condition": "paths", "value": "/orders"}],
    }
    assert found["service"] == {
        "id": SERVICE["id"],
        "name": "orders",
        "protocol": "http",
        "host": "orders.upstream",
        "port": 8080,
        "path": "/v1",
    }
    weights = {(target["host"], target["port"]): target["weight"] for target in found["upstream"]["targets"]}
    assert (found["upstream"]["name"], weights) == ("orders.upstream", {("192.0.2.1", 80): 100, ("192.0.2.2", 80): 0})
    assert (found["upstream_path"], found["status"], found["fault"], found["unknown"]) == ("/v1/1", None, None, [])


def test_a_request_that_matches_nothing_is_told_what_is_missing() -> None:
    found = explained(feed_of(), asked(method="POST", host="api.test:81"))
    assert (found["route"], found["service"], found["status"], found["fault"]) == (None, None, 404, "no_route")
    (near,) = found["nearest"]
    assert near["failed"] == [{"condition": "methods", "wanted": ["GET"], "got": "POST"}]
    assert (near["id"], near["name"]) == (ROUTE["id"], "orders")


@pytest.mark.parametrize(
    ("route", "request_", "status", "fault"),
    [
        ({"protocols": ["https"]}, {}, 426, "https_required"),
        ({"protocols": ["https"], "https_redirect_status_code": 301}, {}, 301, "https_required"),
        ({"protocols": ["https"]}, {"scheme": "https"}, None, None),
        ({"protocols": ["https"]}, {"is_trusted": True, "headers": [("X-Forwarded-Proto", "https")]}, None, None),
        ({"protocols": ["https"]}, {"headers": [("X-Forwarded-Proto", "https")]}, 426, "https_required"),
        ({"service": None}, {}, 503, "no_service"),
    ],
)
def test_what_the_gateway_answers_by_itself(route: Row, request_: Row, status: int | None, fault: str | None) -> None:
    found = explained(feed_of(routes=[{**ROUTE, **route}]), asked(**request_))
    assert (found["status"], found["fault"]) == (status, fault)
    assert found["route"]["id"] == ROUTE["id"]


def test_an_upstream_without_targets_has_nobody_to_ask() -> None:
    found = explained(feed_of(targets=[TARGETS[1]]), asked())
    assert (found["status"], found["fault"]) == (503, "no_healthy_target")


def test_plugins_stand_in_the_order_in_which_they_run() -> None:
    rows = [
        row("plugins", name="cors"),
        row("plugins", name="key-auth", service={"id": SERVICE["id"]}),
        row("plugins", name="rate-limiting", config={"minute": 5}),
        row("plugins", name="rate-limiting", config={"minute": 7}, route={"id": ROUTE["id"]}, consumer={"id": CONSUMER}),
        row("plugins", name="acl", config={"allow": ["a"]}, enabled=False),
    ]

    def names(request: Row) -> list[tuple[str, str]]:
        return [(plugin["name"], plugin["scope"]) for plugin in explained(feed_of(plugins=rows), request)["plugins"]]

    assert names(asked()) == [("cors", "global"), ("key-auth", "service"), ("rate-limiting", "global")]
    of_consumer = [("cors", "global"), ("key-auth", "service"), ("rate-limiting", "route+consumer")]
    assert names(asked(consumer_id=CONSUMER)) == of_consumer
    assert names(asked(path="/elsewhere")) == [("cors", "global"), ("rate-limiting", "global")]
    told = {plugin["name"]: plugin for plugin in explained(feed_of(plugins=rows), asked())["plugins"]}
    assert told["key-auth"]["authenticates"]
    assert told["rate-limiting"]["depends_on_consumer"]
    assert not told["cors"]["depends_on_consumer"]


def test_a_plugin_before_the_one_that_says_who_it_is_knows_nobody() -> None:
    rows = [row("plugins", name="correlation-id"), row("plugins", name="correlation-id", consumer={"id": CONSUMER})]

    def scope(plugins: list[Row]) -> str:
        told = explained(feed_of(plugins=plugins), asked(consumer_id=CONSUMER))["plugins"]
        return next(str(plugin["scope"]) for plugin in told if plugin["name"] == "correlation-id")

    assert scope(rows) == "consumer"
    assert scope([*rows, row("plugins", name="key-auth")]) == "global"


def test_identity_headers_of_a_stranger_do_not_count() -> None:
    feed = feed_of(routes=[{**ROUTE, "headers": {"X-Consumer-ID": ["7"]}}])
    headers = [("X-Consumer-ID", "7")]
    assert explained(feed, asked(headers=headers))["route"] is None
    assert explained(feed, asked(headers=headers, is_trusted=True))["route"]["id"] == ROUTE["id"]


def test_a_withheld_value_that_decides_is_said() -> None:
    feed = feed_of(routes=[ROUTE, {**ROUTE, "id": str(uuid.uuid4()), "name": "inner", "headers": {"x-inner": ["1"]}}])
    found = explained(feed, asked(headers=[("X-Inner", None)]))
    assert found["unknown"] == ["the Route `inner` might match: the value of the header `x-inner` is not known"]
    assert explained(feed, asked(headers=[("X-Other", None)]))["unknown"] == []
    assert explained(feed, asked(has_more_headers=True))["unknown"] == found["unknown"]


def test_expressions_are_read_in_their_flavor() -> None:
    entities.use_router_flavor("expressions")
    rows = [row("routes", name="by-words", expression='http.path ^= "/orders" && http.method == "POST"', priority=1)]
    configuration = current(configurations(feed_of(routes=rows), "expressions"))
    (near,) = configuration.explain(asked())["nearest"]
    assert near["failed"] == [{"condition": "expression", "wanted": ['http.method == "POST"'], "got": "GET"}]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"path": "/../x"}, "path"),
        ({"path": "/%zz"}, "path"),
        ({"host": "a b"}, "host"),
        ({"scheme": "ftp"}, "scheme"),
        ({"client_ip": "nobody"}, "client_ip"),
        ({"local_address": "here"}, "local_address"),
        ({"consumer_id": "alice"}, "consumer_id"),
        ({"headers": [("", "1")]}, "headers"),
    ],
)
def test_a_request_that_is_none_is_refused_by_name(change: Row, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: "):
        explained(feed_of(), asked(**change))


# === which configuration ===


def test_it_is_kept_until_one_of_its_rows_changes() -> None:
    feed = feed_of()
    kept = configurations(feed)
    first = current(kept)
    assert first.version == ("db", 7)
    feed.apply(Commit([Change(8, "consumers", "upsert", CONSUMER, {"id": CONSUMER}, ())]))
    assert current(kept) is first
    renamed = {**ROUTE, "name": "renamed"}
    feed.apply(Commit([Change(9, "routes", "upsert", ROUTE["id"], renamed, ())]))
    second = current(kept)
    assert second.version == ("db", 9)
    assert second.explain(asked())["route"]["name"] == "renamed"
    assert first.explain(asked())["route"]["name"] == "orders", "who holds the old one still asks that"


def test_there_is_none_before_there_is_a_feed() -> None:
    assert asyncio.run(Configurations(lambda: None, PLUGINS, "traditional_compatible", "kong").current()) is None


def test_it_is_read_once_whoever_asks() -> None:
    kept = configurations(feed_of())

    async def read() -> list[_core.Configuration | None]:
        return await asyncio.gather(*(kept.current() for _ in range(8)))

    assert len(set(map(id, asyncio.run(read())))) == 1


def test_any_number_of_threads_may_ask_at_once() -> None:
    configuration = current(configurations(feed_of()))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: configuration.explain(asked(f"/orders/{number}")), range(500)))
    assert [answer["upstream_path"] for answer in answers] == [f"/v1/{number}" for number in range(500)]


@pytest.mark.parametrize("message", [b"", b"\0\0\0\1\xc0", b"\0\0\0\x07\x92\xa5delta\x80"])
def test_what_is_no_snapshot_is_not_read(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"^message: "):
        _core.Configuration(message)


def test_settings_that_are_none_are_refused() -> None:
    message = feed_of().since(None)
    with pytest.raises(ValueError, match=r"^router_flavor: "):
        _core.Configuration(message, router_flavor="none")
    with pytest.raises(ValueError, match=r"^router_ranking: "):
        _core.Configuration(message, router_ranking="none")
    with pytest.raises(ValueError, match=r"^plugins: "):
        _core.Configuration(message, plugins=[{"name": "a"}])


def test_what_has_no_effect_is_told() -> None:
    stray = row("routes", name="stray", paths=["/x"], service={"id": str(uuid.uuid4())})
    (warning,) = _core.Configuration(feed_of(routes=[stray]).since(None)).warnings
    assert "its service" in warning


# === of a record ===

RECORD: Row = {
    "kind": "failed",
    "request": {
        "method": "GET",
        "scheme": "https",
        "host": "api.test:8443",
        "path": r"/orders/caf\xC3\xA9%2f",
        "query": ["a", "***"],
        "headers": [["Host", "api.test:8443"], ["X-Key", None], ["Referer", "https://a.test/"], ["Accept", "x" * 256 + "..."]],
    },
    "client": {
        "ip": "192.0.2.9",
        "peer": "192.0.2.9:4711",
        "is_trusted": False,
        "consumer_id": CONSUMER,
        "tls": {"version": "TLSv1.3", "sni": None},
    },
}


def test_a_record_says_what_it_knows_and_no_more() -> None:
    assert of_record(RECORD) == {
        "method": "GET",
        "scheme": "https",
        "host": "api.test:8443",
        "path": "/orders/caf%C3%A9%2f",
        "is_trusted": False,
        "headers": [("Host", "api.test:8443"), ("X-Key", None), ("Referer", None), ("Accept", None)],
        "has_more_headers": False,
        "query": "",
        "hidden_query": ["a"],
        "has_more_arguments": True,
        "client_ip": "192.0.2.9",
        "client_port": 4711,
        "consumer_id": CONSUMER,
        "sni": None,
    }


def test_a_sample_leaves_its_headers_open() -> None:
    sample: Row = {"kind": "sample", "request": {key: RECORD["request"][key] for key in ("method", "scheme", "host", "path")}}
    described = of_record({**sample, "client": {"ip": "192.0.2.9"}})
    assert described["has_more_headers"]
    assert not {"sni", "client_port", "hidden_query"} & described.keys()
    many = {**sample, "request": {**sample["request"], "query": ["a", "b", "c", "d"]}}
    assert of_record(many)["has_more_arguments"]


@pytest.mark.parametrize(
    "request_", [{}, {"path": None}, {"path": "/" + "a" * 1023 + "..."}, {"host": "a" * 256 + "..."}, {"scheme": "tcp"}]
)
def test_a_record_in_part_describes_nothing(request_: Row) -> None:
    of_request = {**RECORD["request"], **request_} if request_ else {}
    with pytest.raises(Undescribed):
        of_record({**RECORD, "request": of_request})


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": "ab"},
        {"headers": [1]},
        {"headers": [["Host"]]},
        {"headers": [[1, "a"]]},
        {"headers": [["Host", 1]]},
        {"query": [1]},
        {"query": [None]},
    ],
)
def test_a_record_of_another_shape_describes_nothing(request_: Row) -> None:
    with pytest.raises(Undescribed):
        of_record({**RECORD, "request": {**RECORD["request"], **request_}})


def test_what_a_record_describes_can_be_explained() -> None:
    assert explained(feed_of(), of_record(RECORD))["route"]["name"] == "orders"
