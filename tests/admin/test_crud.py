# SPDX-License-Identifier: Apache-2.0
"""Do the endpoints made from the declarations do what Kong's do?"""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.admin import Admin

NOWHERE = "00000000-0000-4000-8000-000000000000"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

_numbers = itertools.count()


def unique(word: str) -> str:
    return f"{word}-{next(_numbers)}"


@pytest.fixture
def service(admin: Admin) -> dict[str, Any]:
    made: dict[str, Any] = admin.post("/services", {"name": unique("service"), "url": "http://origin.test:81/base"})
    return made


@pytest.fixture
def route(admin: Admin, service: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = admin.post(f"/services/{service['name']}/routes", {"name": unique("route"), "paths": ["/"]})
    return made


@pytest.fixture
def consumer(admin: Admin) -> dict[str, Any]:
    made: dict[str, Any] = admin.post("/consumers", {"username": unique("consumer")})
    return made


# === entity endpoints ===


@pytest.mark.parametrize("key", ["id", "name"])
def test_a_row_is_read_changed_and_deleted_by_id_and_by_name(admin: Admin, service: dict[str, Any], key: str) -> None:
    path = f"/services/{service[key]}"
    assert admin.get(path) == service
    assert admin.patch(path, {"retries": 0})["retries"] == 0
    admin.delete(path)
    assert admin.call("GET", path).status == 404
    admin.delete(path)


def test_put_creates_under_the_name_of_the_path_and_then_replaces(admin: Admin) -> None:
    name = unique("put")
    made = admin.put(f"/services/{name}", {"host": "origin.test", "retries": 1, "name": "another"})
    assert (made["name"], made["retries"]) == (name, 1)
    again = admin.put(f"/services/{name}", {"host": "other.test"})
    assert (again["id"], again["retries"], again["host"]) == (made["id"], 5, "other.test")


def test_put_creates_under_the_id_of_the_path(admin: Admin) -> None:
    made = admin.put(f"/services/{NOWHERE}", {"host": "origin.test"})
    assert made["id"] == NOWHERE
    admin.delete(f"/services/{NOWHERE}")


@pytest.mark.parametrize(
    ("key", "message", "fields"),
    [
        (NOWHERE, f"could not find the entity with primary key '{{id=\"{NOWHERE}\"}}'", {"id": NOWHERE}),
        ("absent", "could not find the entity with '{name=\"absent\"}'", {"name": "absent"}),
    ],
)
def test_a_patch_of_what_is_absent_says_what_it_looked_for(admin: Admin, key: str, message: str, fields: dict[str, str]) -> None:
    answer = admin.call("PATCH", f"/services/{key}", {"retries": 1})
    assert answer.status == 404
    assert answer.json == {"code": 6, "name": "not found", "message": message, "fields": fields}


def test_a_patch_of_an_absent_plugin_says_less(admin: Admin) -> None:
    answer = admin.call("PATCH", f"/plugins/{NOWHERE}", {"config": {}})
    assert (answer.status, answer.json) == (404, {"message": "Not found"})


def test_null_unsets_and_for_a_required_field_is_refused_in_a_patch(admin: Admin, service: dict[str, Any]) -> None:
    path = f"/services/{service['id']}"
    assert admin.patch(path, {"path": None})["path"] is None
    answer = admin.call("PATCH", path, {"host": None})
    assert (answer.status, answer.json["fields"]) == (400, {"host": "required field missing"})
    assert admin.put(path, {"host": "origin.test", "protocol": None})["protocol"] == "http"


def test_keys_with_a_slash_are_found(admin: Admin) -> None:
    name = f"{unique('bob')}/smith é"
    admin.post("/consumers", {"username": name})
    assert admin.get(f"/consumers/{quote(name, safe='')}")["username"] == name


def test_a_slash_at_the_end_says_nothing(admin: Admin, service: dict[str, Any]) -> None:
    assert admin.get(f"/services/{service['id']}/") == service
    assert "data" in admin.get("/services/")


def test_head_is_get_without_body(admin: Admin, service: dict[str, Any]) -> None:
    got, head = (admin.call(method, f"/services/{service['id']}") for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/services", "GET, HEAD, OPTIONS, POST"),
        ("/services/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ],
)
def test_options_tells_the_methods_and_others_are_refused(admin: Admin, path: str, allowed: str) -> None:
    answer = admin.call("OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == answer.headers["access-control-allow-methods"] == allowed
    for method in {"DELETE", "PATCH", "POST", "PUT", "TRACE", "BREW"} - set(allowed.split(", ")):
        answer = admin.call(method, path)
        assert (answer.status, answer.json) == (405, {"message": "Method not allowed"})
        assert answer.headers["allow"] == allowed


# === nested endpoints ===


def test_a_nested_collection_is_the_parents_own(admin: Admin, service: dict[str, Any], route: dict[str, Any]) -> None:
    admin.post("/routes", {"paths": ["/elsewhere"]})
    for key in (service["id"], service["name"]):
        assert admin.get(f"/services/{key}/routes")["data"] == [route]
    assert admin.call("GET", "/services/absent/routes").status == 404
    assert admin.call("POST", "/services/absent/routes", {"paths": ["/"]}).status == 404


def test_the_parent_of_the_path_wins_over_the_bodys(admin: Admin, service: dict[str, Any]) -> None:
    made = admin.post(f"/services/{service['id']}/routes", {"paths": ["/"], "service": {"id": NOWHERE}})
    assert made["service"] == {"id": service["id"]}


def test_a_nested_row_belongs_to_its_parent_only(admin: Admin, service: dict[str, Any], route: dict[str, Any]) -> None:
    other = admin.post("/services", {"name": unique("other"), "host": "origin.test"})
    stranger = f"/services/{other['id']}/routes/{route['id']}"
    for method, body in (("GET", None), ("PATCH", {"paths": ["/x"]}), ("DELETE", None)):
        assert admin.call(method, stranger, body).status == 404
    assert admin.get(f"/services/{service['id']}/routes/{route['name']}") == route
    moved = admin.put(stranger, {"paths": ["/moved"]})
    assert (moved["id"], moved["service"]) == (route["id"], {"id": other["id"]})
    admin.delete(stranger)
    assert admin.call("DELETE", stranger).status == 404


def test_a_parent_is_read_changed_and_never_deleted_through_its_child(
    admin: Admin, service: dict[str, Any], route: dict[str, Any]
) -> None:
    path = f"/routes/{route['id']}/service"
    assert admin.get(path) == service
    assert admin.patch(path, {"retries": 1})["retries"] == 1
    assert admin.put(path, {"host": "other.test"})["id"] == service["id"]
    answer = admin.call("DELETE", path)
    assert (answer.status, answer.json) == (405, {"message": "Method not allowed"})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, PATCH, PUT"


def test_a_parent_is_made_through_its_child(admin: Admin) -> None:
    route = admin.post("/routes", {"paths": ["/alone"]})
    path = f"/routes/{route['id']}/service"
    for method, body in (("GET", None), ("PATCH", {"retries": 1}), ("DELETE", None)):
        assert admin.call(method, path, body).status == 404
    made = admin.put(path, {"host": "origin.test"})
    assert admin.get(f"/routes/{route['id']}")["service"] == {"id": made["id"]}


def test_targets_live_below_their_upstream(admin: Admin) -> None:
    upstream = admin.post("/upstreams", {"name": unique("up") + ".test"})
    collection = f"/upstreams/{upstream['name']}/targets"
    target = admin.post(collection, {"target": "127.0.0.1"})
    assert target["target"] == "127.0.0.1:8000"
    assert admin.get(collection)["data"] == admin.get(f"{collection}/all")["data"] == [target]
    for key in (target["id"], "127.0.0.1:8000", "127.0.0.1"):
        for method in ("PATCH", "PUT"):
            answer = admin.call(method, f"{collection}/{key}", {"weight": 1})
            assert (answer.status, answer.json["weight"], answer.json["id"]) == (200, 1, target["id"])
    assert admin.call("POST", collection, {"target": "127.0.0.1:8000"}).status == 409
    assert admin.call("PUT", f"{collection}/10.0.0.1:80", {"weight": 1}).status == 404
    admin.delete(f"{collection}/127.0.0.1:8000")
    assert admin.call("DELETE", f"{collection}/127.0.0.1:8000").status == 404
    for path in ("/targets", f"/targets/{target['id']}", f"/targets/{target['id']}/upstream"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = admin.call(method, path)
            assert (answer.status, answer.json) == (404, {"message": "Not found"})


def test_keys_are_made_below_their_consumer_and_read_by_all_paths(admin: Admin, consumer: dict[str, Any]) -> None:
    made = admin.post(f"/consumers/{consumer['username']}/key-auth", {})
    assert (len(made["key"]), made["ttl"], made["consumer"]) == (32, None, {"id": consumer["id"]})
    for path in (
        f"/consumers/{consumer['id']}/key-auth/{made['id']}",
        f"/consumers/{consumer['id']}/key-auth/{made['key']}",
        f"/key-auths/{made['key']}",
    ):
        assert admin.get(path) == made
    assert admin.get(f"/key-auths/{made['id']}/consumer") == consumer
    admin.delete(f"/consumers/{consumer['id']}")
    assert admin.call("GET", f"/key-auths/{made['id']}").status == 404


def test_a_key_may_be_given_seconds_to_live(admin: Admin, consumer: dict[str, Any]) -> None:
    made = admin.post(f"/consumers/{consumer['id']}/key-auth", {"ttl": 100})
    assert 98 <= made["ttl"] <= 100
    assert 98 <= admin.patch(f"/key-auths/{made['id']}", {"tags": ["t"]})["ttl"] <= 100
    assert admin.put(f"/key-auths/{made['id']}", {"consumer": made["consumer"], "key": made["key"]})["ttl"] is None


def test_a_consumer_is_found_by_its_custom_id(admin: Admin) -> None:
    custom_id = unique("custom")
    made = admin.post("/consumers", {"custom_id": custom_id})
    assert admin.get(f"/consumers?custom_id={custom_id}") == {"data": [made], "next": None}
    assert admin.get("/consumers?custom_id=absent")["data"] == []
    answer = admin.call("GET", "/consumers?custom_id=")
    assert (answer.status, answer.json) == (400, {"message": "custom_id must be an unempty string"})


@pytest.mark.parametrize("scope", ["service", "route", "consumer"])
def test_plugins_are_put_on_what_they_are_for(admin: Admin, request: pytest.FixtureRequest, scope: str) -> None:
    parent = request.getfixturevalue(scope)
    path = f"/{scope}s/{parent['id']}/plugins"
    made = admin.post(path, {"name": "rate-limiting", "config": {"minute": 5}})
    assert made[scope] == {"id": parent["id"]}
    assert made["config"]["minute"] == 5
    assert admin.get(path)["data"] == [made]
    assert admin.get(f"/plugins/{made['id']}/{scope}") == parent
    answer = admin.call("POST", path, {"name": "rate-limiting", "config": {"hour": 1}})
    assert answer.status == 409
    assert answer.json["fields"] == {
        "name": "rate-limiting",
        **dict.fromkeys(("service", "route", "consumer")),
        scope: {"id": parent["id"]},
    }


def test_a_patch_of_a_plugin_merges_its_configuration(admin: Admin, service: dict[str, Any]) -> None:
    made = admin.post(f"/services/{service['id']}/plugins", {"name": "rate-limiting", "config": {"minute": 5, "hour": 9}})
    patched = admin.patch(f"/plugins/{made['id']}", {"config": {"minute": 6}})
    assert (patched["config"]["minute"], patched["config"]["hour"]) == (6, 9)
    form = admin.call("PATCH", f"/plugins/{made['id']}", b"config.hour=10&enabled=false", FORM)
    assert (form.json["config"]["hour"], form.json["config"]["minute"], form.json["enabled"]) == (10, 6, False)


@pytest.mark.parametrize("name", [["key-auth"], ["x"], [], {"x": 1}, 5, True])
def test_the_name_of_a_plugin_is_a_text(admin: Admin, name: Any) -> None:
    for path in ("/plugins", "/schemas/plugins/validate"):
        answer = admin.call("POST", path, {"name": name})
        assert (answer.status, answer.json["fields"]) == (400, {"name": "expected a string"})


def test_what_a_plugin_cannot_do_yet_is_refused_and_named(admin: Admin, service: dict[str, Any]) -> None:
    body = {"name": "rate-limiting", "config": {"minute": 5, "policy": "redis", "redis": {"host": "redis.test"}}}
    answer = admin.call("POST", f"/services/{service['id']}/plugins", body)
    assert answer.status == 400
    assert "policy" in answer.json["message"]
    assert admin.get(f"/services/{service['id']}/plugins")["data"] == []


# === collections ===


def test_pages_meet_and_the_last_has_no_next(admin: Admin, service: dict[str, Any]) -> None:
    path = f"/services/{service['id']}/routes"
    ids = sorted(admin.post(path, {"paths": [f"/{number}"]})["id"] for number in range(3))
    first = admin.get(f"{path}?size=2")
    assert first["next"] == f"{path}?offset={first['offset']}"
    last = admin.get(f"{path}?size=2&offset={first['offset']}")
    assert [row["id"] for row in first["data"] + last["data"]] == ids
    assert (last["next"], "offset" in last) == (None, False)


def test_the_next_page_of_a_whole_collection_keeps_tags_and_size(admin: Admin) -> None:
    tag = unique("tag")
    for _ in range(2):
        admin.post("/consumers", {"username": unique("tagged"), "tags": [tag, "b"]})
    page = admin.get(f"/consumers?size=1&tags={tag},b")
    assert page["next"] == f"/consumers?offset={page['offset']}&tags={tag},b&size=1"
    assert len(admin.get(page["next"])["data"]) == 1
    assert admin.get(f"/consumers?tags={tag}/absent")["data"]
    assert admin.get(f"/consumers?tags={tag},absent")["data"] == []


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("size=0", 9, "size must be an integer between 1 and 1000"),
        ("size=1001", 9, "size must be an integer between 1 and 1000"),
        ("size=1.5", 9, "size must be an integer between 1 and 1000"),
        ("size=x", 9, "size must be a number"),
        ("size=%EF%BC%91%EF%BC%90", 9, "size must be a number"),
        ("size=1_0", 9, "size must be a number"),
        ("size=nan", 9, "size must be an integer between 1 and 1000"),
        ("offset=%3F", 7, "'?' is not a valid offset: bad base64 encoding"),
        ("tags=a,b/c", 11, "invalid option (tags: invalid filter syntax)"),
        ("tags=", 11, "invalid option (tags: cannot be null)"),
        ("tags=a,b,c,d,e,f", 11, "invalid option (tags: cannot query more than 5 tags)"),
    ],
)
def test_a_wrong_query_is_refused(admin: Admin, query: str, code: int, message: str) -> None:
    answer = admin.call("GET", f"/services?{query}")
    assert (answer.status, answer.json["code"], answer.json["message"]) == (400, code, message)


# === bodies ===


def form(admin: Admin, path: str, text: str, method: str = "POST") -> Any:
    answer = admin.call(method, path, text.encode(), FORM)
    assert answer.status in (200, 201), answer.body
    return answer.json


@pytest.mark.parametrize(
    "text",
    [
        "paths[]=/a&paths[]=/b",
        "paths%5B%5D=%2Fa&paths%5B%5D=%2Fb",
        "paths[1]=/a&paths[2]=/b",
        "paths[2]=/b&paths[1]=/a",
        "paths=/a&paths=/b",
    ],
)
def test_arrays_in_forms(admin: Admin, text: str) -> None:
    assert form(admin, "/routes", text)["paths"] == ["/a", "/b"]


def test_other_types_in_forms(admin: Admin, service: dict[str, Any]) -> None:
    made = form(
        admin,
        "/routes",
        f"methods=GET&strip_path=false&regex_priority=7&service.id={service['id']}&paths=/a&tags=",
    )
    assert made["methods"] == ["GET"]
    assert (made["strip_path"], made["regex_priority"], made["tags"]) == (False, 7, None)
    assert made["service"] == {"id": service["id"]}
    assert form(admin, f"/routes/{made['id']}", f"service.name={service['name']}", "PATCH")["service"] == made["service"]


def test_maps_in_forms(admin: Admin) -> None:
    made = form(admin, "/routes", "headers[x-a]=1&headers[x-a]=2&headers[x-b][]=3")
    assert made["headers"] == {"x-a": ["1", "2"], "x-b": ["3"]}


def test_multipart_forms(admin: Admin) -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="paths[]"\r\n\r\n/multi\r\n--XX--\r\n'
    answer = admin.call("POST", "/routes", body, {"Content-Type": "multipart/form-data; boundary=XX"})
    assert (answer.status, answer.json["paths"]) == (201, ["/multi"])


def test_json_is_strict_about_types(admin: Admin) -> None:
    answer = admin.call("POST", "/services", {"host": "origin.test", "port": "80"})
    assert (answer.status, answer.json["fields"]) == (400, {"port": "expected an integer"})


def test_a_parent_named_in_json_is_resolved(admin: Admin, service: dict[str, Any]) -> None:
    made = admin.post("/routes", {"paths": ["/"], "service": {"name": service["name"]}})
    assert made["service"] == {"id": service["id"]}
    answer = admin.call("POST", "/routes", {"paths": ["/"], "service": {"name": "absent"}})
    assert (answer.status, answer.json["code"]) == (400, 13)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=utf-8"}, 201),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/xml"}, 415),
        ({}, 415),
    ],
)
def test_types_of_bodies(admin: Admin, headers: dict[str, str], status: int) -> None:
    body = b'{"host": "origin.test"}'
    assert admin.call("POST", "/services", body, headers).status == status


def test_ids_are_found_in_capitals_too(admin: Admin, service: dict[str, Any]) -> None:
    capitals = service["id"].upper()
    assert admin.get(f"/services/{capitals}")["id"] == service["id"]
    route = admin.post("/routes", {"paths": ["/capitals"], "service": {"id": capitals}})
    assert route["service"]["id"] == service["id"]
    assert admin.put(f"/services/{capitals}", {"host": "other.test"})["id"] == service["id"]


def test_a_number_that_no_column_holds_is_refused(admin: Admin) -> None:
    upstream = admin.post("/upstreams", {"name": unique("upstream")})
    answer = admin.call("POST", f"/upstreams/{upstream['id']}/targets", {"target": "1.2.3.4:1", "created_at": 10**20})
    assert answer.status == 400


@pytest.mark.parametrize("endpoint", ["http://[bad", "http://h:99999999"])
def test_a_log_endpoint_that_is_no_url_is_refused(admin: Admin, endpoint: str) -> None:
    config = {"http_endpoint": endpoint, "headers": {"Authorization": "x"}}
    assert admin.call("POST", "/plugins", {"name": "http-log", "config": config}).status == 400


def test_a_group_is_named_below_its_consumer(admin: Admin, consumer: dict[str, Any]) -> None:
    other = admin.post("/consumers", {"username": unique("consumer")})
    path = f"/consumers/{consumer['id']}/acls"
    made = admin.post(path, {"group": "g"})
    elsewhere = admin.post(f"/consumers/{other['id']}/acls", {"group": "g"})
    assert admin.get(f"{path}/g") == made
    assert admin.call("PUT", f"{path}/g", {"tags": ["t"]}).json["id"] == made["id"]
    assert admin.call("PUT", f"{path}/new", {}).json["group"] == "new"
    assert admin.call("PATCH", f"{path}/g", {"tags": ["u"]}).json["tags"] == ["u"]
    assert admin.call("DELETE", f"{path}/g").status == 204
    assert admin.call("GET", f"{path}/g").status == 404
    assert admin.get(f"/consumers/{other['id']}/acls/g") == elsewhere
    assert admin.call("GET", "/acls/g").status == 404
