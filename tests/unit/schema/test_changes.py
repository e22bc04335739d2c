# SPDX-License-Identifier: Apache-2.0
"""What does a change of a row keep, merge, replace and refuse?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.schema import Entity, Record, field, kinds, schema_of
from pylae.schema.validate import is_uuid
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])
RATE_LIMITING: dict[str, Any] = {"name": "rate-limiting", "config": {"minute": 5}}


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


def _refused(table: str, row: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema(table).update(row, patch)
    assert caught.value.fields is not None
    return caught.value.fields


def test_timestamps_and_ids_are_generated_unless_given() -> None:
    schema = entities.schema("consumers")
    row = schema.insert({"username": "bob"}, now_s=1000.9)
    assert is_uuid(row["id"])
    assert (row["created_at"], row["updated_at"]) == (1000, 1000)
    given = schema.insert({"username": "bob", "created_at": 5, "updated_at": 6, "id": row["id"]}, now_s=1000.9)
    assert (given["created_at"], given["updated_at"], given["id"]) == (5, 1000, row["id"])


def test_timestamps_of_targets_carry_milliseconds() -> None:
    row = entities.schema("targets").insert(
        {"target": "a", "upstream": {"id": "4a2f9d6e-3c1b-4f7e-8a55-0123456789ab"}}, now_s=7.1239
    )
    assert row["created_at"] == 7.124


def test_a_change_keeps_what_it_does_not_name_and_the_key() -> None:
    schema = entities.schema("services")
    row = schema.insert({"name": "a", "host": "a.com", "retries": 2}, now_s=10)
    changed = schema.update(row, {"path": "/x", "id": "4a2f9d6e-3c1b-4f7e-8a55-0123456789ab"}, now_s=20)
    assert changed == {**row, "path": "/x", "updated_at": 20}


def test_a_change_expands_the_url() -> None:
    schema = entities.schema("services")
    row = schema.insert({"url": "http://a.com:81/x"})
    changed = schema.update(row, {"url": "https://b.com"})
    assert (changed["protocol"], changed["host"], changed["port"], changed["path"]) == ("https", "b.com", 443, None)


@pytest.mark.parametrize(
    ("url", "protocol", "port", "path"),
    [
        ("grpc://b.com", "grpc", 80, None),
        ("//b.com/x", "http", 80, "/x"),
        ("//b.com:443", "https", 443, None),
        ("//b.com:9", "http", 9, None),
    ],
)
def test_a_change_to_a_url_that_leaves_something_out(url: str, protocol: str, port: int, path: str | None) -> None:
    schema = entities.schema("services")
    row = schema.insert({"url": "https://a.com:81/y"})
    changed = schema.update(row, {"url": url, **({"path": None} if path is None else {})})
    assert (changed["protocol"], changed["host"], changed["port"], changed["path"]) == (protocol, "b.com", port, path)


def test_null_clears_an_optional_field_and_is_refused_for_a_required_one() -> None:
    schema = entities.schema("services")
    row = schema.insert({"name": "a", "host": "a.com", "tags": ["x"]})
    changed = schema.update(row, {"name": None, "tags": None})
    assert (changed["name"], changed["tags"]) == (None, None)
    assert _refused("services", row, {"host": None, "protocol": None}) == {
        "host": "required field missing",
        "protocol": "required field missing",
    }


def test_null_for_a_required_field_takes_its_default_on_insert() -> None:
    row = entities.schema("services").insert({"host": "a.com", "protocol": None, "enabled": None, "retries": None})
    assert (row["protocol"], row["enabled"], row["retries"]) == ("http", True, None)


def test_records_are_merged_and_other_values_replaced() -> None:
    schema = entities.schema("upstreams")
    row = schema.insert({"name": "u", "healthchecks": {"active": {"timeout": 5, "headers": {"x-a": ["1"]}}}, "tags": ["a", "b"]})
    patch = {"healthchecks": {"active": {"headers": {"x-b": ["2"]}, "healthy": {"http_statuses": [200]}}}, "tags": ["c"]}
    active = schema.update(row, patch)["healthchecks"]["active"]
    assert active["timeout"] == 5
    assert active["headers"] == {"x-b": ["2"]}
    assert active["healthy"] == {"http_statuses": [200], "interval": 0, "successes": 0}
    assert schema.update(row, patch)["tags"] == ["c"]


def test_fields_come_in_the_order_of_their_declaration() -> None:
    schema = entities.schema("plugins")
    row = schema.insert({"config": {"redis": {"port": 1}, "minute": 5}, "name": "rate-limiting"})
    assert list(row) == list(schema.fields)
    config = PLUGINS["rate-limiting"].Config
    assert list(row["config"]) == list(config.fields)
    assert list(schema.update(row, {"config": {"hour": 6, "second": 1}})["config"]) == list(config.fields)


def test_a_change_does_not_touch_the_row_it_was_given() -> None:
    schema = entities.schema("upstreams")
    row = schema.insert({"name": "u"})
    schema.update(row, {"healthchecks": {"threshold": 50}})
    assert row["healthchecks"]["threshold"] == 0


def test_checks_see_the_whole_row_after_a_change() -> None:
    row = entities.schema("routes").insert({"paths": ["/a"]})
    assert _refused("routes", row, {"paths": None}) == {
        "@entity": ["must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"]
    }
    assert "strip_path" in _refused("routes", row, {"protocols": ["grpc"]})
    assert entities.schema("routes").update(row, {"protocols": ["grpc"], "strip_path": False})["protocols"] == ["grpc"]


def test_a_plugin_row_is_changed_under_the_rules_of_its_plugin() -> None:
    schema = entities.schema("plugins")
    row = schema.insert({"name": "rate-limiting", "config": {"minute": 5}})
    changed = schema.update(row, {"config": {"hour": 10}})
    assert (changed["config"]["minute"], changed["config"]["hour"]) == (5, 10)
    assert _refused("plugins", row, {"config": {"second": 9}}) == {
        "config": "The limit for minute(5.0) cannot be lower than the limit for second(9.0)"
    }
    assert _refused("plugins", row, {"name": "nope"}) == {
        "name": "plugin 'nope' not enabled; add it to the 'plugins' configuration property"
    }


def test_old_names_are_moved_shown_again_and_must_agree() -> None:
    schema = entities.schema("plugins")
    row = schema.insert({"name": "rate-limiting", "config": {"minute": 5, "redis_host": "r", "redis_port": 7000}})
    assert "redis_host" not in row["config"]
    assert (row["config"]["redis"]["host"], row["config"]["redis"]["port"]) == ("r", 7000)
    shown = schema.present(row)["config"]
    assert (shown["redis_host"], shown["redis_port"], shown["redis_username"]) == ("r", 7000, None)
    assert schema.update(row, {"config": shown})["config"] == row["config"]
    assert schema.update(row, {"config": {"redis_host": "s"}})["config"]["redis"]["host"] == "s"
    assert _refused("plugins", row, {"config": {"redis_host": "a", "redis": {"host": "b"}}}) == {
        "config": {
            "redis_host": "both deprecated and new field are used but their values mismatch: redis_host = a vs redis.host = b"
        }
    }
    assert _refused("plugins", row, {"config": {"redis_port": "x"}}) == {"config": {"redis_port": "expected an integer"}}


def test_a_plugin_without_name_or_of_no_name_is_refused() -> None:
    with pytest.raises(SchemaViolation, match=r"\(name: required field missing\)"):
        entities.schema("plugins").insert({"config": {}})
    with pytest.raises(SchemaViolation, match="plugin 'nope' not enabled"):
        entities.schema("plugins").insert({"name": "nope", "junk": 1})


def test_whole_numbers_are_stored_as_such() -> None:
    row = entities.schema("services").insert({"host": "a.com", "port": 80.0})
    assert isinstance(row["port"], int)


@pytest.mark.parametrize("number", [2**53 + 1, -(10**30), float("inf"), float("-inf"), float("nan")])
def test_a_number_that_not_every_reader_has_is_refused(number: float) -> None:
    errors = {"minute": "expected a number"}
    assert _refused("plugins", entities.schema("plugins").insert(RATE_LIMITING), {"config": {"minute": number}}) == {
        "config": errors
    }
    assert _refused("services", entities.schema("services").insert({"host": "a"}), {"port": number}) == {
        "port": "expected an integer"
    }


def test_a_great_number_that_is_no_integer_stays_as_it_is() -> None:
    row = entities.schema("plugins").insert({**RATE_LIMITING, "config": {"minute": 1e30}})
    assert isinstance(row["config"]["minute"], float)
    assert _refused("services", entities.schema("services").insert({"host": "a"}), {"port": 1e30}) == {
        "port": "expected an integer"
    }


def test_of_a_reference_the_id_alone_is_kept() -> None:
    parent = "4a2f9d6e-3c1b-4f7e-8a55-0123456789ab"
    row = entities.schema("routes").insert({"paths": ["/a"], "service": {"id": parent, "name": "x", "junk": [10**30]}})
    assert row["service"] == {"id": parent}


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_no_database_keeps_is_refused(value: str) -> None:
    with pytest.raises(SchemaViolation):
        entities.schema("consumers").insert({"username": value})


@pytest.mark.parametrize(
    ("table", "values", "errors"),
    [
        ("routes", {"paths": ["/a", None]}, {"paths": [None, "required field missing"]}),
        ("routes", {"headers": {"x-a": None}}, {"headers": "required field missing"}),
        ("routes", {"headers": {"x-a": [None]}}, {"headers": ["required field missing"]}),
        ("services", {"url": "https://a.com", "ca_certificates": [None]}, {"ca_certificates": ["required field missing"]}),
        ("plugins", {"name": "key-auth", "protocols": ["http", None]}, {"protocols": [None, "required field missing"]}),
    ],
)
def test_null_in_a_list_or_map_is_refused(table: str, values: dict[str, Any], errors: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema(table).insert(values)
    assert caught.value.fields == errors


def test_an_empty_object_counts_as_an_empty_list_and_the_reverse() -> None:
    row = entities.schema("routes").insert({"hosts": ["a.com"], "paths": {}, "headers": []})
    assert (row["paths"], row["headers"]) == ([], {})


def test_a_parent_may_be_named_by_another_field_than_its_id() -> None:
    row = entities.schema("routes").insert({"paths": ["/a"], "service": {"name": "x"}})
    assert row["service"] == {"name": "x"}


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ({}, {"id": "missing primary key"}),
        ({"id": None}, {"id": "missing primary key"}),
        ({"id": "x"}, {"id": "expected a valid UUID"}),
        ("x", {"id": "missing primary key"}),
        (5, {"id": "missing primary key"}),
    ],
)
def test_a_reference_needs_a_key(service: Any, error: dict[str, str]) -> None:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("routes").insert({"paths": ["/a"], "service": service})
    assert caught.value.fields == {"service": error}


class _Part(Record):
    level: int = field(kinds.integer(), default=3, doc="A level.")


class _Thing(Entity):
    table = "things"
    id: str = field(kinds.string(uuid=True), auto=True, doc="An id.")
    kind: str = field(kinds.string(), immutable=True, required=True, doc="Never changes.")
    parts: list[dict[str, Any]] | None = field(kinds.array(kinds.record(_Part)), doc="Some parts.")
    by_name: dict[str, dict[str, Any]] | None = field(kinds.map_of(kinds.string(), kinds.record(_Part)), doc="Named parts.")
    part: dict[str, Any] = field(kinds.record(_Part), doc="A part.")


def test_an_immutable_field_cannot_be_changed() -> None:
    schema = schema_of(_Thing)
    row = schema.insert({"kind": "a"})
    assert schema.update(row, {"kind": "a"})["kind"] == "a"
    with pytest.raises(SchemaViolation, match=r"kind: immutable field cannot be updated"):
        schema.update(row, {"kind": "b"})


def test_records_inside_lists_and_maps_get_their_defaults() -> None:
    row = schema_of(_Thing).insert({"kind": "a", "parts": [{}, {"level": 1}], "by_name": {"x": {}}})
    assert row["parts"] == [{"level": 3}, {"level": 1}]
    assert row["by_name"] == {"x": {"level": 3}}
    assert row["part"] == {"level": 3}


def test_a_record_is_loaded_with_attributes_all_the_way_down() -> None:
    thing = _Thing.load({"kind": "a", "parts": [{"level": 1}], "by_name": {"x": {}}})
    assert (thing.kind, thing.parts[0].level, thing.by_name["x"].level, thing.part.level) == ("a", 1, 3, 3)  # type: ignore[index, union-attr, attr-defined]  # nested records are typed as their rows


def test_a_secret_is_not_in_the_repr() -> None:
    certificate = entities.registry()["certificates"].load({"key": "hush"})
    assert "hush" not in repr(certificate)
