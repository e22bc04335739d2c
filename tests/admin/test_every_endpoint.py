# SPDX-License-Identifier: Apache-2.0
"""Does every endpoint of Kong's answer every method as Kong does? With real rows, on the real process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.admin.entities import FACTS, Maker, Row, declared
from tests.admin.process import ControlProcess
from tests.support.admin import Admin, Answer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NOWHERE = "00000000-0000-4000-8000-000000000000"
Endpoint = dict[str, Any]

ENDPOINTS: list[Endpoint] = json.loads((FACTS / "admin-api.json").read_text())["endpoints"]

UNDONE = {
    "/acme": "the work of the plugin `acme` is not part of this version",
    "/acme/certificates": "as above: it keeps no certificates",
    "/acme/certificates/{host}": "as above",
    "/proxy-cache": "the work of the plugin `proxy-cache` is not part of this version",
    "/proxy-cache/{cache_key}": "as above: nothing is cached",
    "/proxy-cache/{plugin_id}/caches/{cache_key}": "as above",
}
"""Endpoints of a plugin's own that have nothing to answer with yet: 404 {"message":"Not found"}."""
OURS = {
    "/dns",
    "/dns/{name}",
    "/docs",
    "/explain",
    "/explain/dry-run",
    "/explain/route",
    "/explain/{request_id}",
    "/openapi.json",
    "/status/warnings",
    "/warnings",
}
"""Endpoints that Kong has not; each has tests of its own."""
SOLD = {
    "/ca_certificates/{ca_certificates}/mtls-auth",
    "/ca_certificates/{ca_certificates}/mtls-auth/{mtls_auth_credentials}",
    "/consumers/{consumers}/mtls-auth",
    "/consumers/{consumers}/mtls-auth/{mtls_auth_credentials}",
    "/mtls-auths",
    "/mtls-auths/{mtls_auth_credentials}",
    "/mtls-auths/{mtls_auth_credentials}/ca_certificate",
    "/mtls-auths/{mtls_auth_credentials}/consumer",
}
"""Endpoints of plugins that it sells."""
WITHOUT_WASM = {"message": "this endpoint is only available when wasm is enabled"}
NOT_A_CONTROL_PLANE = {
    "message": "this endpoint is only available when Kong is configured to run as Control Plane for the cluster"
}


def is_of_wasm(endpoint: Endpoint) -> bool:
    return "wasm" in endpoint.get("note", "") or ("/filters/" in endpoint["path"] and endpoint["path"].startswith("/routes"))


def of_kind(kind: str) -> list[Any]:
    """Generated endpoints that answer with rows."""
    return [
        pytest.param(endpoint, id=endpoint["path"])
        for endpoint in ENDPOINTS
        if endpoint.get("kind") == kind
        and not endpoint.get("disabled")
        and not is_of_wasm(endpoint)
        and endpoint.get("entity") != "tags"
    ]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with ControlProcess(tmp_path_factory.mktemp("prefix"), {"nginx_worker_processes": "1"}) as process:
        yield process


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def filled(path: str, rows: dict[str, str]) -> str:
    """A path with its parameters filled in."""
    return re.sub(r"{(\w+)}", lambda found: rows[found.group(1)], path)


def check_frame(admin: Admin, path: str, methods: list[str]) -> None:
    """OPTIONS says the methods, and every other one is refused, with a slash at the end or without."""
    answer = admin.call("OPTIONS", path)
    allowed = ", ".join(sorted(methods))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == answer.headers["access-control-allow-methods"] == allowed
    assert answer.headers["access-control-allow-headers"] == "Content-Type"
    asked = admin.call("OPTIONS", path, headers={"Access-Control-Request-Headers": "X-A, X-B"})
    assert asked.headers["access-control-allow-headers"] == "X-A, X-B"
    for method in set(METHODS) - set(methods):
        for target in (path, path.rstrip("/") + "/"):
            refused = admin.call(method, target)
            shown = None if method == "HEAD" else {"message": "Method not allowed"}
            assert (refused.status, refused.json) == (405, shown), method


def check_head(admin: Admin, path: str, get: Answer) -> None:
    """HEAD is GET without the body."""
    head = admin.call("HEAD", path)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"] == "application/json; charset=utf-8"


def check_row(table: str, row: Row) -> None:
    """Every field that Kong shows is there."""
    fields = {field["name"] for field in declared()[table]["fields"]}
    assert fields <= row.keys(), fields - row.keys()
    assert re.fullmatch(r"[0-9a-f-]{36}", row["id"])
    assert "ws_id" not in row


def check_page(table: str, page: Row, *ids: str) -> None:
    assert page.keys() <= {"data", "next", "offset"}
    assert ("offset" in page) == (page["next"] is not None)
    for row in page["data"]:
        check_row(table, row)
    assert set(ids) <= {row["id"] for row in page["data"]}


# === generated endpoints ===


@pytest.mark.parametrize("endpoint", of_kind("collection"))
def test_collections(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    path, table = endpoint["path"], endpoint["entity"]
    check_frame(admin, path, endpoint["methods"])
    made = admin.call("POST", path, maker.body(table))
    assert made.status == 201, made.body
    check_row(table, made.json)
    get = admin.call("GET", f"{path}?size=1000")
    assert get.status == 200
    check_page(table, get.json, made.json["id"])
    check_head(admin, f"{path}?size=1000", get)
    assert admin.call("GET", f"{path}/?size=1000").json == get.json

    maker.row(table)
    first = admin.get(f"{path}?size=1")
    assert len(first["data"]) == 1
    assert first["next"] == f"{path}?offset={first['offset']}&size=1"
    seen, follow = [], f"{path}?size=1"
    while follow is not None:
        page = admin.get(follow)
        seen += [row["id"] for row in page["data"]]
        follow = page["next"]
    assert seen == sorted(set(seen))
    assert seen == [row["id"] for row in admin.get(f"{path}?size=1000")["data"]]


@pytest.mark.parametrize("endpoint", of_kind("entity"))
def test_entities(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    table = endpoint["entity"]
    body = maker.body(table)
    row = maker.row(table, **body)
    path = filled(endpoint["path"], {table: row["id"]})
    check_frame(admin, path, endpoint["methods"])
    get = admin.call("GET", path)
    assert get.status == 200
    check_row(table, get.json)
    check_head(admin, path, get)
    assert admin.get(path + "/") == get.json

    key = declared()[table]["endpoint_key"]
    if key is not None:
        by_key = filled(endpoint["path"], {table: get.json[key]})
        assert admin.get(by_key)["id"] == row["id"]
    patched = admin.call("PATCH", path, {})
    assert patched.status == 200, patched.body
    assert patched.json["id"] == row["id"]
    put = admin.call("PUT", path, body)
    assert put.status == 200, put.body
    assert put.json["id"] == row["id"]
    check_row(table, put.json)

    fresh = filled(endpoint["path"], {table: f"11111111-1111-4111-8111-{maker_number():012}"})
    absent = admin.call("GET", fresh)
    assert (absent.status, absent.json) == (404, {"message": "Not found"})
    missing = admin.call("PATCH", fresh, {"name": "rate-limiting"} if table == "plugins" else {})
    assert (missing.status, missing.json["code"]) == (404, 6), missing.body
    assert admin.call("PUT", fresh, maker.body(table)).status == 200
    for _ in range(2):
        assert admin.call("DELETE", fresh).status == 204
    assert admin.call("GET", fresh).status == 404
    assert admin.call("DELETE", path).status == 204
    assert admin.call("GET", path).status == 404


def maker_number() -> int:
    from tests.admin.entities import number

    return number()


def nested(maker: Maker, endpoint: Endpoint) -> tuple[Row, str, str]:
    """The parent of a nested endpoint, the table of its children, and their field that refers to it."""
    parent_table, child_table = endpoint["path"].split("/")[2].strip("{}"), endpoint["entity"]
    (field,) = (
        declared_field["name"]
        for declared_field in declared()[child_table]["fields"]
        if declared_field.get("references") == parent_table
    )
    return maker.row(parent_table), child_table, field


@pytest.mark.parametrize("endpoint", of_kind("nested collection"))
def test_nested_collections(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    parent, table, field = nested(maker, endpoint)
    parent_table = endpoint["path"].split("/")[2].strip("{}")
    path = filled(endpoint["path"], {parent_table: parent["id"]})
    check_frame(admin, path, endpoint["methods"])
    body = maker.body(table, **{field: {"id": parent["id"]}})
    body.pop(field)
    made = admin.call("POST", path, body)
    assert made.status == 201, made.body
    assert made.json[field] == {"id": parent["id"]}
    other = maker.row(table)
    get = admin.call("GET", path)
    check_page(table, get.json, made.json["id"])
    assert other["id"] not in {row["id"] for row in get.json["data"]}
    check_head(admin, path, get)
    child = admin.post(path, {key: value for key, value in maker.body(table, **{field: {"id": NOWHERE}}).items() if key != field})
    page = admin.get(f"{path}?size=1")
    assert page["next"] == f"{path}?offset={page['offset']}"
    assert {made.json["id"], child["id"]} == {row["id"] for row in admin.get(path)["data"]}
    nowhere = filled(endpoint["path"], {parent_table: NOWHERE})
    for answer in (admin.call("GET", nowhere), admin.call("POST", nowhere, body)):
        assert (answer.status, answer.json) == (404, {"message": "Not found"})


@pytest.mark.parametrize("endpoint", of_kind("nested entity"))
def test_nested_entities(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    parent, table, field = nested(maker, endpoint)
    parent_table = endpoint["path"].split("/")[2].strip("{}")
    body = maker.body(table, **{field: {"id": parent["id"]}})
    child, stranger = maker.row(table, **body), maker.row(table)
    path = filled(endpoint["path"], {parent_table: parent["id"], table: child["id"]})
    check_frame(admin, path, endpoint["methods"])
    get = admin.call("GET", path)
    assert get.status == 200
    check_row(table, get.json)
    check_head(admin, path, get)
    assert admin.call("PATCH", path, {}).status == 200
    of_another = filled(endpoint["path"], {parent_table: parent["id"], table: stranger["id"]})
    for method in ("GET", "PATCH", "DELETE"):
        assert admin.call(method, of_another, {}).status == 404, method
    put = admin.call("PUT", path, body)
    assert put.status == 200, put.body
    assert put.json[field] == {"id": parent["id"]}
    assert admin.call("DELETE", path).status == 204
    for method in ("GET", "DELETE"):
        gone = admin.call(method, path)
        assert (gone.status, gone.json) == (404, {"message": "Not found"})
    if table == "targets":
        # PUT updates like PATCH, and makes nothing.
        assert admin.call("PUT", path, body).status == 404
        return
    moved = maker.body(table)
    moved.pop(field, None)
    assert admin.put(of_another, moved)[field] == {"id": parent["id"]}


@pytest.mark.parametrize("endpoint", of_kind("foreign entity"))
def test_foreign_entities(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    table, field = endpoint["path"].split("/")[2].strip("{}"), endpoint["path"].rsplit("/", 1)[1]
    parent_table = endpoint["entity"]
    parent_body = maker.body(parent_table)
    parent = maker.row(parent_table, **parent_body)
    child = maker.row(table, **{field: {"id": parent["id"]}})
    path = filled(endpoint["path"], {table: child["id"]})
    check_frame(admin, path, endpoint["methods"])
    get = admin.call("GET", path)
    assert (get.status, get.json["id"]) == (200, parent["id"])
    check_row(parent_table, get.json)
    check_head(admin, path, get)
    assert admin.patch(path, {})["id"] == parent["id"]
    assert admin.put(path, parent_body)["id"] == parent["id"]
    refused = admin.call("DELETE", path)
    assert (refused.status, refused.json) == (405, {"message": "Method not allowed"})
    nowhere = filled(endpoint["path"], {table: NOWHERE})
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = admin.call(method, nowhere, {} if method == "PATCH" else maker.body(parent_table))
        assert (answer.status, answer.json) == (404, {"message": "Not found"}), method
    (declared_field,) = (one for one in declared()[table]["fields"] if one["name"] == field)
    if not declared_field.get("required") and table != "plugins":
        orphan = maker.row(table)
        path = filled(endpoint["path"], {table: orphan["id"]})
        for method in ("GET", "PATCH", "DELETE"):
            assert admin.call(method, path, {}).status == 404, method
        made = admin.put(path, maker.body(parent_table))
        assert admin.get(path) == made


@pytest.mark.parametrize("path", [endpoint["path"] for endpoint in ENDPOINTS if endpoint.get("disabled")])
def test_what_kong_disabled_is_not_there(admin: Admin, maker: Maker, path: str) -> None:
    target, sni = maker.row("targets"), maker.row("snis")
    path = filled(path, {"targets": target["id"], "snis": sni["id"]})
    for method in METHODS:
        answer = admin.call(method, path)
        assert (answer.status, answer.json) == (404, None if method == "HEAD" else {"message": "Not found"}), method


@pytest.mark.parametrize("endpoint", [pytest.param(one, id=one["path"]) for one in ENDPOINTS if is_of_wasm(one)])
def test_filters_need_wasm(admin: Admin, maker: Maker, endpoint: Endpoint) -> None:
    rows = {"filter_chains": NOWHERE, "routes": maker.row("routes")["id"], "services": maker.row("services")["id"]}
    path = filled(endpoint["path"], rows)
    check_frame(admin, path, endpoint["methods"])
    for method in set(endpoint["methods"]) - {"OPTIONS"}:
        answer = admin.call(method, path, {"filters": []} if method in ("POST", "PUT", "PATCH") else None)
        assert (answer.status, answer.json) == (400, None if method == "HEAD" else WITHOUT_WASM), method


# === endpoints of their own ===


def is_text(text: str) -> Callable[[Any], bool]:
    return lambda body: bool(body == {"message": text})


def has(*names: str) -> Callable[[Any], bool]:
    return lambda body: set(names) <= body.keys()


NOT_FOUND = 404, is_text("Not found")
NOTHING = 204, lambda body: body is None
NO_DATABASE = is_text("this endpoint is only available when Kong is configured to not use a database")
VALID = 200, is_text("schema validation successful")
REFUSED_TAG = 405, lambda body: body["code"] == 12
EXPECTED: dict[str, dict[str, tuple[int, Callable[[Any], bool]]]] = {
    "/": {"GET": (200, has("version", "edition", "node_id", "timers", "plugins", "configuration", "pids", "lua_version"))},
    "/cache": {"DELETE": NOTHING},
    "/cache/{key}": {"GET": NOT_FOUND, "DELETE": NOTHING},
    "/clustering/data-planes": {"GET": (400, lambda body: body == NOT_A_CONTROL_PLANE)},
    "/clustering/status": {"GET": (400, lambda body: body == NOT_A_CONTROL_PLANE)},
    "/config": {"GET": (400, NO_DATABASE), "POST": (400, NO_DATABASE)},
    "/debug/cluster/log-level/{log_level}": {"PUT": (200, is_text("log level is already notice"))},
    "/debug/node/log-level": {"GET": (200, is_text("log level: notice"))},
    "/debug/node/log-level/{log_level}": {"PUT": (200, is_text("log level is already notice"))},
    "/endpoints": {"GET": (200, has("data"))},
    "/metrics": {},
    "/plugins/enabled": {"GET": (200, has("enabled_plugins"))},
    "/plugins/schema/{name}": {"GET": (200, has("fields"))},
    "/schemas/filters/{name}": {"GET": (404, is_text("Filter 'key-auth' not found"))},
    "/schemas/plugins/validate": {"POST": VALID},
    "/schemas/plugins/{name}": {"GET": (200, has("fields", "entity_checks"))},
    "/schemas/vaults/validate": {"POST": VALID},
    "/schemas/vaults/{name}": {"GET": (404, is_text("No vault named 'key-auth'"))},
    "/schemas/{db_entity_name}/validate": {"POST": VALID},
    "/schemas/{name}": {"GET": (404, is_text("No entity named 'key-auth'"))},
    "/status": {"GET": (200, has("memory", "server", "database"))},
    "/status/dns": {"GET": (501, is_text("not implemented with the legacy DNS client"))},
    "/tags": {"GET": (200, has("data", "next")), "POST": REFUSED_TAG},
    "/tags/{tags}": {
        "GET": (200, has("data", "next")),
        "PUT": REFUSED_TAG,
        "PATCH": REFUSED_TAG,
        "DELETE": REFUSED_TAG,
    },
    "/timers": {"GET": (200, lambda body: body == {"worker": {"id": 0, "count": 1}, "stats": {}})},
    "/upstreams/{upstreams}/health": {"GET": (200, has("data", "next", "node_id"))},
    "/upstreams/{upstreams}/targets/all": {"GET": (200, has("data", "next"))},
    "/upstreams/{upstreams}/targets/{targets}/healthy": {"PUT": NOTHING},
    "/upstreams/{upstreams}/targets/{targets}/unhealthy": {"PUT": NOTHING},
    "/upstreams/{upstreams}/targets/{targets}/{address}/healthy": {"PUT": NOTHING},
    "/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy": {"PUT": NOTHING},
    **{path: {} for path in UNDONE},
}
"""Status and body of each method but HEAD, OPTIONS and those that are refused."""
BODIES = {
    "/schemas/plugins/validate": {"name": "key-auth"},
    "/schemas/vaults/validate": {"name": "env", "prefix": "of-a-walk"},
    "/schemas/{db_entity_name}/validate": {"host": "h.test"},
}


@pytest.mark.parametrize("path", EXPECTED)
def test_endpoints_of_their_own(admin: Admin, maker: Maker, path: str) -> None:
    (endpoint,) = (one for one in ENDPOINTS if one["path"] == path)
    upstream = maker.row("upstreams")
    target = maker.row("targets", upstream={"id": upstream["id"]})
    parameters = {
        "upstreams": upstream["id"],
        "targets": target["target"],
        "address": target["target"],
        "log_level": "notice",
        "key": "k",
        "name": "key-auth",
        "db_entity_name": "services",
        "tags": "t",
        "host": "h.test",
        "cache_key": "0" * 32,
        "plugin_id": NOWHERE,
    }
    filled_path = filled(path, parameters)
    check_frame(admin, filled_path, endpoint["methods"])
    for method, (status, is_right) in EXPECTED[path].items():
        answer = admin.call(method, filled_path, BODIES.get(path))
        assert answer.status == status, answer.body
        assert is_right(answer.json), answer.body
        if method == "GET":
            check_head(admin, filled_path, answer)


@pytest.mark.parametrize("path", UNDONE)
def test_endpoints_of_plugins_without_work_have_nothing(admin: Admin, path: str) -> None:
    (endpoint,) = (one for one in ENDPOINTS if one["path"] == path)
    filled_path = re.sub(r"{\w+}", NOWHERE, path)
    for method in set(endpoint["methods"]) - {"OPTIONS"}:
        answer = admin.call(method, filled_path)
        assert (answer.status, answer.json) == (404, None if method == "HEAD" else {"message": "Not found"}), method


def test_those_are_all_that_are_missing() -> None:
    of_plugins = {endpoint["path"] for endpoint in ENDPOINTS if endpoint["origin"].startswith("plugin")}
    assert of_plugins - UNDONE.keys() == {"/metrics"}
    assert UNDONE.keys() <= of_plugins


def test_every_endpoint_was_walked() -> None:
    kinds = ("collection", "entity", "nested collection", "nested entity", "foreign entity")
    walked = {parameter.id for kind in kinds for parameter in of_kind(kind)}
    walked |= {endpoint["path"] for endpoint in ENDPOINTS if endpoint.get("disabled") or is_of_wasm(endpoint)}
    walked |= EXPECTED.keys() | {"/status/ready"}
    assert walked == {endpoint["path"] for endpoint in ENDPOINTS}
    assert len(walked) == 142


def test_they_are_listed(admin: Admin) -> None:
    listed = admin.get("/endpoints")["data"]
    assert set(listed) == OURS | SOLD | {endpoint["path"] for endpoint in ENDPOINTS if endpoint.get("only_on") is None}
    assert listed == sorted(listed, key=lambda path: path.replace("/", "\0"))


@pytest.mark.parametrize(
    "path",
    [
        *("/workspaces", "/workspaces/default", "/rbac/users", "/rbac/roles", "/admins", "/consumer_groups", "/licenses"),
        *("/event-hooks", "/developers", "/files", "/audit/requests", "/keyring", "/groups", "/default/services"),
        *("/license/report", "/userinfo", "/auth", "/degraphql_routes", "/partials", "/nothing"),
    ],
)
def test_what_kong_has_not_either_is_not_found(admin: Admin, path: str) -> None:
    for method in METHODS:
        answer = admin.call(method, path)
        assert (answer.status, answer.json) == (404, None if method == "HEAD" else {"message": "Not found"}), method


def test_nothing_of_it_was_our_fault(control: ControlProcess) -> None:
    assert "[error]" not in control.error_log
    assert "Traceback" not in control.error_log
