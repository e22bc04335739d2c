# SPDX-License-Identifier: Apache-2.0
"""Can a client that manages a whole configuration do its work, as decK does?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.admin.entities import PATHS, Maker, Row, number
from tests.admin.process import ControlProcess
from tests.admin.scenario import Rows, check_reads, configuration, declarative, every, path_of, put
from tests.support.admin import Admin

NOWHERE = "00000000-0000-4000-8000-000000000000"


@dataclass
class Loaded:
    """A process that holds the configuration."""

    process: ControlProcess
    rows: Rows

    @property
    def admin(self) -> Admin:
        return self.process.admin


@pytest.fixture(scope="module", params=["sqlite", "off"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    rows = configuration()
    with ControlProcess(tmp_path_factory.mktemp("prefix"), {"database": request.param}) as process:
        if request.param == "off":
            process.admin.post("/config", declarative(rows))
        else:
            assert [row["id"] for _, row in put(process.admin, rows)] == [row["id"] for of in rows.values() for row in of]
        yield Loaded(process, rows)


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def test_everything_is_found_again(loaded: Loaded) -> None:
    check_reads(loaded.admin, loaded.rows)
    assert "[error]" not in loaded.process.error_log


def test_a_second_sync_changes_nothing(loaded: Loaded) -> None:
    if loaded.admin.call("GET", "/config").status == 200:
        before = loaded.admin.get("/status")["pylae"]["version"]
        loaded.admin.call("POST", "/config?check_hash=1", declarative(loaded.rows))
        assert loaded.admin.get("/status")["pylae"]["version"] == before
        return
    before = {row["id"]: row for table in PATHS for row in every(loaded.admin, f"/{PATHS[table]}")}
    for table, row in put(loaded.admin, loaded.rows):
        if table not in ("targets", "basicauth_credentials"):
            # A password is hashed anew, from what was sent: the same.
            assert {**row, "updated_at": 0} == {**before[row["id"]], "updated_at": 0}
    check_reads(loaded.admin, loaded.rows)


def test_a_restart_loses_nothing(loaded: Loaded) -> None:
    loaded.process.kill()
    loaded.process.restart()
    check_reads(loaded.admin, loaded.rows)


# === what a client changes ===


def test_a_put_by_name_makes_then_replaces(admin: Admin) -> None:
    name = f"by-name-{number()}"
    made = admin.put(f"/services/{name}", {"host": "a.test", "retries": 1})
    assert (made["name"], made["retries"]) == (name, 1)
    again = admin.put(f"/services/{name}", {"host": "b.test", "name": "ignored"})
    assert (again["id"], again["name"], again["host"], again["retries"]) == (made["id"], name, "b.test", 5)
    assert again["created_at"] == made["created_at"]
    patched = admin.patch(f"/services/{name}", {"path": "/p", "host": "c.test"})
    assert (patched["path"], patched["host"]) == ("/p", "c.test")
    assert admin.patch(f"/services/{name}", {"path": None})["path"] is None
    refused = admin.call("PATCH", f"/services/{name}", {"host": None})
    assert (refused.status, refused.json["fields"]) == (400, {"host": "required field missing"})
    assert admin.put(f"/services/{name}", {"host": "c.test", "protocol": None})["protocol"] == "http"
    assert admin.put(f"/services/{name}", {"host": "c.test", "retries": None})["retries"] is None
    renamed = admin.patch(f"/services/{name}", {"name": f"{name}-new"})
    assert renamed["id"] == made["id"]
    assert admin.call("GET", f"/services/{name}").status == 404


def test_records_are_merged_and_lists_replaced(admin: Admin, maker: Maker) -> None:
    upstream = maker.row("upstreams", healthchecks={"active": {"timeout": 3, "healthy": {"http_statuses": [200, 201]}}})
    patched = admin.patch(f"/upstreams/{upstream['id']}", {"healthchecks": {"active": {"healthy": {"http_statuses": [204]}}}})
    active = patched["healthchecks"]["active"]
    assert (active["timeout"], active["healthy"]["http_statuses"]) == (3, [204])
    route = maker.row("routes", headers={"x-a": ["1"], "x-b": ["2"]})
    assert admin.patch(f"/routes/{route['id']}", {"headers": {"x-c": ["3"]}})["headers"] == {"x-c": ["3"]}


def test_a_plugin_is_patched_without_its_name(admin: Admin, maker: Maker) -> None:
    plugin = maker.row("plugins", name="rate-limiting", config={"minute": 5, "policy": "local"})
    patched = admin.patch(f"/plugins/{plugin['instance_name']}", {"config": {"hour": 100}})
    assert (patched["config"]["minute"], patched["config"]["hour"]) == (5, 100)
    refused = admin.call("PATCH", f"/plugins/{plugin['id']}", {"config": {"nothing": 1}})
    assert refused.json["fields"] == {"config": {"nothing": "unknown field"}}
    absent = admin.call("PATCH", f"/plugins/{NOWHERE}", {"config": {}})
    assert (absent.status, absent.json) == (404, {"message": "Not found"})


def test_targets_are_changed_by_id_or_place(admin: Admin, maker: Maker) -> None:
    target = maker.row("targets", target="[::1]:80")
    path = f"/upstreams/{target['upstream']['id']}/targets"
    for method, weight in (("PATCH", 0), ("PUT", 7)):
        for key in (target["id"], "[::1]:80", target["target"]):
            answer = admin.call(method, f"{path}/{key}", {"weight": weight})
            assert (answer.status, answer.json["weight"], answer.json["id"]) == (200, weight, target["id"])
    assert admin.patch(f"{path}/{target['id']}", {"weight": 0})["weight"] == 0
    assert [row["weight"] for row in admin.get(path)["data"]] == [0]
    short = admin.post(path, {"target": "10.0.0.1"})
    assert short["target"] == "10.0.0.1:8000"
    assert admin.get(f"{path}/10.0.0.1")["id"] == short["id"]
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        answer = admin.call(method, f"{path}/10.9.9.9:80", {})
        assert (answer.status, answer.json) == (404, {"message": "Not found"})
    admin.delete(f"{path}/10.0.0.1:8000")
    assert admin.call("DELETE", f"{path}/10.0.0.1:8000").status == 404


# === what goes along, and what has to stay ===


def test_children_go_with_their_parent_or_keep_it(admin: Admin, maker: Maker) -> None:
    consumer = maker.row("consumers")
    owner = {"id": consumer["id"]}
    gone = [
        ("acls", maker.row("acls", consumer=owner)),
        ("keyauth_credentials", maker.row("keyauth_credentials", consumer=owner)),
        ("basicauth_credentials", maker.row("basicauth_credentials", consumer=owner)),
        ("plugins", maker.row("plugins", consumer=owner)),
    ]
    credential = maker.row("oauth2_credentials", consumer=owner)
    gone += [
        ("oauth2_credentials", credential),
        ("oauth2_tokens", maker.row("oauth2_tokens", credential={"id": credential["id"]})),
    ]
    admin.delete(f"/consumers/{consumer['username']}")
    for table, row in gone:
        assert admin.call("GET", f"/{PATHS[table]}/{row['id']}").status == 404, table

    service = maker.row("services")
    route = maker.row("routes", service={"id": service["id"]})
    plugin = maker.row("plugins", route={"id": route["id"]})
    refused = admin.call("DELETE", f"/services/{service['id']}")
    assert refused.json == {
        "code": 4,
        "name": "foreign key violation",
        "message": "an existing 'routes' entity references this 'services' entity",
        "fields": {"@referenced_by": "routes"},
    }
    admin.delete(f"/routes/{route['id']}")
    assert admin.call("GET", f"/plugins/{plugin['id']}").status == 404
    admin.delete(f"/services/{service['id']}")

    upstream = maker.row("upstreams")
    maker.row("targets", upstream={"id": upstream["id"]})
    admin.delete(f"/upstreams/{upstream['id']}")
    key_set = maker.row("key_sets")
    key = maker.row("keys", set={"id": key_set["id"]})
    admin.delete(f"/key-sets/{key_set['id']}")
    assert admin.call("GET", f"/keys/{key['id']}").status == 404


def test_a_ca_certificate_in_use_stays(admin: Admin, maker: Maker) -> None:
    authority = maker.row("ca_certificates")
    service = maker.row("services", ca_certificates=[authority["id"]])
    refused = admin.call("DELETE", f"/ca_certificates/{authority['id']}")
    expected = f"ca certificate {authority['id']} is still referenced by services (id = {service['id']})"
    assert (refused.status, refused.json["code"], refused.json["message"]) == (400, 19, expected)
    admin.delete(f"/services/{service['id']}")
    admin.delete(f"/ca_certificates/{authority['id']}")


# === what is refused ===


@pytest.mark.parametrize(
    ("table", "unique"),
    [
        ("services", ["name"]),
        ("routes", ["name"]),
        ("consumers", ["username"]),
        ("consumers", ["custom_id"]),
        ("upstreams", ["name"]),
        ("snis", ["name"]),
        ("vaults", ["prefix"]),
        ("key_sets", ["name"]),
        ("keys", ["name"]),
        ("keys", ["kid", "set"]),
        ("plugins", ["instance_name"]),
        ("plugins", ["name", "route", "service", "consumer"]),
        ("targets", ["upstream", "target"]),
        ("acls", ["consumer", "group"]),
        ("keyauth_credentials", ["key"]),
        ("basicauth_credentials", ["username"]),
        ("hmacauth_credentials", ["username"]),
        ("jwt_secrets", ["key"]),
        ("oauth2_credentials", ["client_id"]),
        ("oauth2_tokens", ["access_token"]),
        ("sessions", ["session_id"]),
        ("acme_storage", ["key"]),
        ("ca_certificates", ["cert_digest"]),
    ],
)
def test_what_is_unique_is_refused_twice(admin: Admin, maker: Maker, table: str, unique: list[str]) -> None:
    parents: Row = {"set": {"id": maker.row("key_sets")["id"]}} if table == "keys" else {}
    first = maker.row(table, **parents)
    taken = {"cert": first["cert"]} if table == "ca_certificates" else {name: first[name] for name in unique}
    second = maker.body(table, **taken)
    if table == "plugins" and "name" in unique:
        second["config"] = {}
        second["config"] = {"minute": 1} if first["name"] == "rate-limiting" else {}
    path = f"/upstreams/{first['upstream']['id']}/targets" if table == "targets" else f"/{PATHS[table]}"
    answer = admin.call("POST", path, second)
    fields = {name: first[name] for name in unique}
    assert (answer.status, answer.json["code"], answer.json["name"]) == (409, 5, "unique constraint violation"), answer.body
    assert answer.json["fields"] == fields
    shown = ",".join(f"{name}={_lua(fields[name])}" for name in sorted(fields))
    assert answer.json["message"] == f"UNIQUE violation detected on '{{{shown}}}'"


def _lua(value: Any) -> str:
    if value is None:
        return "null"
    return '{id="' + value["id"] + '"}' if isinstance(value, dict) else f'"{value}"'


def test_an_id_is_not_given_twice(admin: Admin, maker: Maker) -> None:
    first = maker.row("services")
    answer = admin.call("POST", "/services", maker.body("services", id=first["id"]))
    expected = f"primary key violation on key '{{id=\"{first['id']}\"}}'"
    assert (answer.status, answer.json["code"], answer.json["message"]) == (400, 3, expected)


def test_parents_are_named_by_key_or_refused(admin: Admin, maker: Maker) -> None:
    service = maker.row("services")
    made = admin.post("/routes", maker.body("routes", service={"name": service["name"]}))
    assert made["service"] == {"id": service["id"]}
    unresolved = admin.call("POST", "/routes", maker.body("routes", service={"name": "nobody"}))
    assert (unresolved.status, unresolved.json["code"], unresolved.json["name"]) == (400, 13, "foreign keys unresolved")
    assert (
        "the foreign key cannot be resolved with '{name=\"nobody\"}' for an existing 'services' entity"
        in (unresolved.json["message"])
    )
    dangling = admin.call("POST", "/routes", maker.body("routes", service={"id": NOWHERE}))
    assert dangling.json["message"] == (
        f"the foreign key '{{id=\"{NOWHERE}\"}}' does not reference an existing 'services' entity."
    )
    assert (dangling.status, dangling.json["code"], dangling.json["fields"]) == (400, 4, {"service": {"id": NOWHERE}})
    refused: list[Any] = [{}, {"id": "x"}, "name", 5, [], {"nothing": "x"}, {"name": 5}]
    for bad in refused:
        answer = admin.call("POST", "/routes", maker.body("routes", service=bad))
        assert (answer.status, answer.json["code"]) == (400, 2), (bad, answer.body)
    in_form = f"paths[]=/x&service.name={service['name']}".encode()
    formed = admin.call("POST", "/routes", in_form, {"Content-Type": "application/x-www-form-urlencoded"})
    assert formed.json["service"] == {"id": service["id"]}


@pytest.mark.parametrize(
    ("query", "option", "text"),
    [
        ("tags=a,b/c", "tags", "invalid filter syntax"),
        ("tags=a,", "tags", "invalid filter syntax"),
        ("tags=a,b,c,d,e,f", "tags", "cannot query more than 5 tags"),
        ("tags=a/b/c/d/e/f", "tags", "cannot query more than 5 tags"),
        ("tags=", "tags", "cannot be null"),
    ],
)
def test_filters_of_tags_are_refused(admin: Admin, query: str, option: str, text: str) -> None:
    answer = admin.call("GET", f"/services?{query}")
    assert answer.status == 400
    assert answer.json == {
        "code": 11,
        "name": "invalid options",
        "message": f"invalid option ({option}: {text})",
        "options": {option: text},
    }


def test_a_filter_says_nothing_of_rows_without_tags(admin: Admin, maker: Maker) -> None:
    for table in ("sessions", "acme_storage", "oauth2_tokens"):
        made = maker.row(table)
        assert made["id"] in {row["id"] for row in every(admin, f"/{PATHS[table]}", tags="nothing")}


def test_the_next_page_keeps_tags_and_size_in_order(admin: Admin, maker: Maker) -> None:
    for _ in range(3):
        maker.row("services", tags=["kept", "too"])
    page = admin.get("/services?tags=kept,too&size=2")
    assert page["next"] == f"/services?offset={page['offset']}&tags=kept,too&size=2"
    assert len(admin.get(page["next"])["data"]) == 1
    assert "next" in admin.get(page["next"])


@pytest.mark.parametrize("size", ["0", "1001", "-1", "1.5"])
def test_sizes_out_of_range(admin: Admin, size: str) -> None:
    for path in ("/services", "/tags", "/tags/a"):
        answer = admin.call("GET", f"{path}?size={size}")
        assert (answer.status, answer.json["code"]) == (400, 9)
        assert answer.json["message"] == "size must be an integer between 1 and 1000"


def test_a_size_that_is_no_number(admin: Admin) -> None:
    assert admin.call("GET", "/services?size=x").json["message"] == "size must be a number"


@pytest.mark.parametrize(
    ("offset", "reason"), [("!", "bad base64 encoding"), ("zzz", "bad json encoding"), ("WzFd", "bad offset string")]
)
def test_offsets_that_nobody_gave(admin: Admin, offset: str, reason: str) -> None:
    for path in ("/services", "/tags", "/tags/a"):
        answer = admin.call("GET", f"{path}?offset={offset}")
        assert answer.json == {"code": 7, "name": "invalid offset", "message": f"'{offset}' is not a valid offset: {reason}"}


def test_a_row_moves_to_the_parent_of_its_path(admin: Admin, maker: Maker) -> None:
    first, second = maker.row("services"), maker.row("services")
    route = maker.row("routes", service={"id": first["id"]})
    body = {name: value for name, value in route.items() if name in ("name", "paths")}
    moved = admin.put(f"/services/{second['name']}/routes/{route['name']}", {**body, "service": {"id": first["id"]}})
    assert (moved["id"], moved["service"]) == (route["id"], {"id": second["id"]})
    assert path_of("routes", moved) == f"/routes/{route['id']}"
    assert admin.call("GET", f"/services/{first['id']}/routes/{route['id']}").status == 404
