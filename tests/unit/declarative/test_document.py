# SPDX-License-Identifier: Apache-2.0
"""Are ids, times and costs of a flattened document what they have to be?"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pylae.database.dao import Catalogue
from pylae.database.strategies.off.holding import Holding, decode_row
from pylae.declarative import differences, hash_of, parse
from pylae.declarative.document import is_declarable, reader_of
from pylae.declarative.faults import HIDDEN, flatten_errors, leaves, place, without_secrets
from pylae.errors import InvalidDeclarativeConfig
from pylae.schema.field import Field, Limits

Values = dict[str, Any]


def flat(catalogue: Catalogue, values: Values, **options: Any) -> Holding:
    return parse(json.dumps({"_format_version": "3.0", **values}).encode()).flatten(catalogue, **options)


def rows(holding: Holding, table: str) -> list[Values]:
    return [decode_row(row) for row in holding[table].encoded.values()]


def test_ids_are_those_of_the_recorded_kong(catalogue: Catalogue) -> None:
    route = {"name": "r", "paths": ["/"]}
    held = flat(catalogue, {"services": [{"name": "s", "host": "h", "routes": [route]}], "consumers": [{"username": "bob"}]})
    assert list(held["services"].encoded) == ["b268827a-8f7f-551f-8769-e6bceb2f3ec6"]
    assert list(held["routes"].encoded) == ["da7ba03a-f1be-52d4-8a7e-c8f32640689a"]
    assert list(held["consumers"].encoded) == ["def4f7d3-9863-5ad2-8fa9-c949bf26f55e"]


def test_the_same_text_gives_the_same_ids_wherever_things_stand(catalogue: Catalogue) -> None:
    plugin = {"name": "key-auth"}
    nested = flat(catalogue, {"services": [{"name": "s", "host": "h", "plugins": [plugin]}]})
    flat_ = flat(catalogue, {"services": [{"name": "s", "host": "h"}], "plugins": [{**plugin, "service": "s"}]})
    assert list(nested["plugins"].encoded) == list(flat_["plugins"].encoded)


def test_an_entity_without_a_name_gets_a_random_id(catalogue: Catalogue) -> None:
    values = {"routes": [{"paths": ["/a"]}, {"paths": ["/b"]}]}
    assert len(flat(catalogue, values)["routes"].encoded) == 2


def test_ids_are_compared_without_case(catalogue: Catalogue) -> None:
    id_ = "AAAAAAAA-0000-4000-8000-000000000001"
    held = flat(catalogue, {"services": [{"id": id_, "name": "s", "host": "h"}], "routes": [{"paths": ["/"], "service": id_}]})
    assert rows(held, "routes")[0]["service"] == {"id": id_.lower()}


def test_rows_that_say_the_same_keep_their_times_and_bytes(catalogue: Catalogue) -> None:
    values: Values = {"services": [{"name": "same", "host": "h"}, {"name": "other", "host": "h"}]}
    first = flat(catalogue, values, now_s=1000)
    values["services"][1]["host"] = "i"
    second = flat(catalogue, values, keep=first, now_s=2000)
    by_name = {row["name"]: (row["created_at"], row["updated_at"]) for row in rows(second, "services")}
    assert by_name == {"same": (1000, 1000), "other": (1000, 2000)}
    same = [id_ for id_, row in second["services"].encoded.items() if row is first["services"].encoded[id_]]
    assert len(same) == 1


def test_a_time_that_is_given_is_kept(catalogue: Catalogue) -> None:
    values = {"services": [{"name": "s", "host": "h", "created_at": 5}]}
    first = flat(catalogue, values, now_s=1000)
    second = flat(catalogue, {"services": [{"name": "s", "host": "h", "created_at": 6}]}, keep=first, now_s=2000)
    assert [rows(held, "services")[0]["created_at"] for held in (first, second)] == [5, 6]


def test_rows_expire(catalogue: Catalogue) -> None:
    held = flat(catalogue, {"consumers": [{"username": "c", "keyauth_credentials": [{"key": "k", "ttl": 10}]}]}, now_s=1000)
    (id_,) = held["keyauth_credentials"].encoded
    seen = [held.reader(now_s).get("keyauth_credentials", id_) for now_s in (1004, 1010)]
    assert [row and row["ttl"] for row in seen] == [6, None]


def test_all_that_is_wrong_is_told_at_once(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        flat(
            catalogue, {"services": [{"name": "a"}, {"name": 3, "host": "h"}], "plugins": [{"name": "key-auth", "service": "z"}]}
        )
    # References are looked at once everything else is proper.
    assert caught.value.fields == {"services": [{"host": "required field missing"}, {"name": "expected a string"}]}


def test_what_is_wrong_has_lines(catalogue: Catalogue) -> None:
    document = parse(b'_format_version: "3.0"\nservices:\n- name: a\n- name: b\n  host: h\n  port: x\n')
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        document.flatten(catalogue)
    lines = document.lines(caught.value.fields or {})
    assert lines == {("services", 0, "host"): 3, ("services", 1, "port"): 6}


def test_errors_that_are_logged_hide_secrets(catalogue: Catalogue) -> None:
    def told(values: Values) -> str:
        with pytest.raises(InvalidDeclarativeConfig) as caught:
            flat(catalogue, values, hide_secrets=True)
        return str(caught.value)

    twice = [{"username": name, "keyauth_credentials": [{"key": "my-secret"}]} for name in "ab"]
    text = told({"consumers": twice})
    assert "with key set to '******' already declared" in text
    assert "my-secret" not in text
    redis = {"host": "h", "password": "my-secret", "port": "x"}
    assert "my-secret" not in told({"plugins": [{"name": "rate-limiting", "config": {"minute": 5, "redis": redis}}]})
    fields = {"key": Field("string", Limits(), secret=True), "open": Field("string", Limits())}
    errors = {"key": "invalid value: abc", "open": "invalid value: abc", "@entity": ["x"]}
    hidden = without_secrets(errors, {"key": "abc", "open": "abc"}, fields)
    assert hidden == {"key": "invalid value: ******", "open": "invalid value: abc", "@entity": ["x"]}


def test_errors_are_placed_in_lists_and_objects() -> None:
    fields: Values = {}
    place(fields, ("a", 1), "text")
    place(fields, ("a", 1, "b", 0), {"c": "inner"})
    place(fields, ("a", 0), {"d": "other"})
    assert fields == {"a": [{"d": "other"}, {"@entity": ["text"], "b": [{"c": "inner"}]}]}
    assert sorted(leaves(fields)) == [(("a", 0, "d"), "other"), (("a", 1), "text"), (("a", 1, "b", 0, "c"), "inner")]


def test_errors_that_are_of_no_entity_stay(catalogue: Catalogue) -> None:
    rest, flattened = flatten_errors({"x": "y", "services": "expected an array"}, {"services": 1}, {"services": 0}, lambda _: {})
    assert (rest, flattened) == ({"x": "y", "services": "expected an array"}, [])


def test_hidden_tables_cannot_be_declared(catalogue: Catalogue) -> None:
    names = {name for name, entity in catalogue.entities.items() if not is_declarable(entity)}
    assert names >= {"workspaces", "tags", "parameters", "clustering_data_planes"}
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        flat(catalogue, {name: [] for name in names})
    assert caught.value.fields == dict.fromkeys(sorted(names), "unknown field") or set(caught.value.fields or {}) == names


def test_a_difference_hides_secrets(catalogue: Catalogue) -> None:
    before = flat(catalogue, {"consumers": [{"username": "c", "keyauth_credentials": [{"id": KEY, "key": "old"}]}]})
    after = flat(catalogue, {"consumers": [{"username": "c", "keyauth_credentials": [{"id": KEY, "key": "new"}]}]})
    (found,) = differences(reader_of(before), after, catalogue)
    assert (found.operation, found.table, found.fields) == ("update", "keyauth_credentials", {"key": (HIDDEN, HIDDEN)})


KEY = "00000000-0000-4000-8000-00000000000b"


def test_differences_are_told_by_field_and_row(catalogue: Catalogue) -> None:
    limit = {"name": "rate-limiting", "config": {"minute": 5}}
    before = flat(catalogue, {"services": [{"name": "gone", "host": "h"}, {"name": "s", "host": "h"}], "plugins": [limit]})
    limit["config"] = {"minute": 6}
    after = flat(catalogue, {"services": [{"name": "s", "host": "h"}, {"name": "new", "host": "h"}], "plugins": [limit]})
    found = {
        (one.operation, one.table, one.name.split()[0]): one.fields for one in differences(reader_of(before), after, catalogue)
    }
    assert set(found) == {("delete", "services", "gone"), ("create", "services", "new"), ("update", "plugins", "rate-limiting")}
    assert found["update", "plugins", "rate-limiting"] == {"config.minute": (5, 6)}


def test_the_hash_is_of_the_text() -> None:
    assert hash_of(b"a") == "0cc175b9c0f1b6a831c399e269772661"


def test_cost_grows_with_size_and_no_faster(catalogue: Catalogue) -> None:
    def cost_s(count: int) -> float:
        plugin = {"name": "key-auth"}
        values = {
            "services": [{"name": "s", "host": "h", "routes": [{"name": f"r{n}", "paths": [f"/{n}"]} for n in range(count)]}],
            "consumers": [{"username": f"c{n}", "tags": ["t"]} for n in range(count)],
            "plugins": [{**plugin, "route": f"r{n}"} for n in range(count)],
        }
        begun_s = time.process_time()
        flat(catalogue, values)
        return time.process_time() - begun_s

    cost_s(50)
    assert cost_s(2000) < 20 * cost_s(200)


def test_many_plugins_of_a_large_service_cost_little(catalogue: Catalogue) -> None:
    # Each has to be looked at beside the Routes of its Service.
    count = 1000
    values = {
        "services": [{"name": "s", "host": "h", "routes": [{"name": f"r{n}", "paths": [f"/{n}"]} for n in range(count)]}],
        "consumers": [{"username": f"c{n}"} for n in range(count)],
        "plugins": [
            {"name": "rate-limiting", "service": "s", "consumer": f"c{n}", "config": {"minute": 1}} for n in range(count)
        ],
    }
    begun_s = time.process_time()
    flat(catalogue, values)
    assert time.process_time() - begun_s < 5


def test_many_plugins_of_two_services_that_they_never_fit_cost_little(catalogue: Catalogue) -> None:
    count = 600
    services = [
        {
            "name": name,
            "url": "grpc://h",
            "routes": [{"name": f"{name}{n}", "paths": [f"/{name}{n}"], "protocols": ["grpc"]} for n in range(count)],
        }
        for name in "st"
    ]
    # One after the other in turn.
    plugins = [
        {"name": "rate-limiting", "service": "st"[n % 2], "consumer": f"c{n}", "protocols": ["http"], "config": {"minute": 1}}
        for n in range(count)
    ]
    consumers = [{"username": f"c{n}"} for n in range(count)]
    begun_s = time.process_time()
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        flat(catalogue, {"services": services, "plugins": plugins, "consumers": consumers})
    assert time.process_time() - begun_s < 1.5
    errors = (caught.value.fields or {})["plugins"]
    told = {"protocols": "must match the protocols of at least one route pointing to this Plugin's service"}
    assert errors == [told] * count


def test_lines_of_many_errors_cost_one_reading(catalogue: Catalogue) -> None:
    lines = "\n".join(f"- {{name: s{n}, host: h, port: x}}" for n in range(6000))
    document = parse(f'_format_version: "3.0"\nservices:\n{lines}\n'.encode())
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        document.flatten(catalogue)
    begun_s = time.process_time()
    found = document.lines(caught.value.fields or {})
    assert time.process_time() - begun_s < 2
    assert found == {("services", n, "port"): n + 3 for n in range(20)}


def test_errors_of_one_entity_are_in_the_order_of_the_document(catalogue: Catalogue) -> None:
    service = {"name": "s", "host": "h", "plugins": 1, "routes": 2}
    with pytest.raises(InvalidDeclarativeConfig) as caught:
        flat(catalogue, {"services": [service]})
    assert list((caught.value.fields or {})["services"][0]) == ["plugins", "routes"]


@pytest.mark.parametrize(("given", "kept"), [(5.0, 5), (1e3, 1000)])
def test_a_whole_number_has_no_point(catalogue: Catalogue, given: float, kept: int) -> None:
    (row,) = rows(flat(catalogue, {"services": [{"name": "s", "host": "h", "retries": given}]}), "services")
    assert (row["retries"], type(row["retries"])) == (kept, int)
