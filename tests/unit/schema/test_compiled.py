# SPDX-License-Identifier: Apache-2.0
"""Is the short way through a declaration never laxer than the long way, and are its rows the same?"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.schema import Record, Schema, field, kinds, schema_of
from pylae.schema.compiled import Refused, new_uuid
from pylae.schema.copying import copied, copier
from pylae.schema.validate import is_uuid
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])
VECTORS = json.loads((Path(__file__).parents[2] / "facts" / "kong" / "schema-vectors.json").read_text())["vectors"]
GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[A-Za-z0-9]{32}")
ODD: list[Any] = [
    *(None, "", "a", "a\0", "ä", "\ud800", "a/b", "//", "/a/../b", "~/a(", "*.a.com", "GET\n", "{vault://env/a}", "x" * 300),
    *(0, 1, -1, 5.0, 0.5, 10**30, float("nan"), float("inf"), True, False),
    *([], {}, [None], ["a", "a"], [1, 1.0, True], [["a"]], [{}], {"a": "b"}, {"a": ["b"]}, {"id": None}, {"id": "x"}),
    *({"id": "4A2f9d6e-3c1b-4f7e-8a55-0123456789ab"}, {"id": "4a2f9d6e-3c1b-4f7e-8a55-0123456789ab", "name": {}}),
]


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


def _same(one: Any, other: Any) -> bool:
    """Whether two rows are the same, but for what is generated for each."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, str) and one != other:
        return all(GENERATED.fullmatch(text) is not None for text in (one, other))
    return bool(one == other) or one != one


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and object inside, each with the keys of what it holds."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _spoilt(schema: Schema, values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The values with one thing changed, which may or may not be wrong now."""
    spoilt: dict[str, Any] = copied(values)
    places = [*_places(spoilt), (spoilt, rng.choice(list(schema.fields)))]
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0 if isinstance(holder, dict):
            holder.pop(key, None)
        case 1 if isinstance(holder, dict):
            holder[rng.choice(["unknown", "host", "id", "created_at", "updated_at"])] = copied(rng.choice(ODD))
        case 2 if isinstance(holder, list):
            holder.append(copied(holder[key]))
        case _:
            holder[key] = copied(rng.choice(ODD))
    return spoilt


def _both_ways(schema: Schema, given: dict[str, Any], context: Any) -> tuple[Any, Any]:
    """The row that each way gives; None for values that it refuses."""
    before = repr(given)
    try:
        short = schema._admit(schema._variant_or_self(given), context)(given, 5.5)
    except Refused:
        short = None
    assert repr(given) == before
    try:
        long = schema._taken_the_long_way(given, context, 5.5)
    except SchemaViolation:
        long = None
    return short, long


@pytest.mark.parametrize("table", sorted({vector["entity"] for vector in VECTORS}))
def test_the_short_way_gives_the_rows_of_the_long_way(table: str) -> None:
    schema = entities.schema(table)
    rng = random.Random(table)
    vectors = [vector["input"] for vector in VECTORS if vector["entity"] == table]
    taken = refused = 0
    for values in vectors:
        for round_number in range(max(20, 600 // len(vectors))):
            spoilt = values if round_number == 0 else _spoilt(schema, values, rng)
            try:
                given = schema._expanded(spoilt, schema._variant_or_self(spoilt))
            except SchemaViolation:
                continue
            short, long = _both_ways(schema, given, "insert")
            assert short is None or _same(short, long), f"{given}\nshort {short}\nlong  {long}"
            taken += short is not None
            refused += short is None and long is not None
            if long is None:
                continue
            for _ in range(2):
                changed = _spoilt(schema, long, rng)
                short, after = _both_ways(schema, changed, "update")
                assert short is None or _same(short, after), f"{changed}\nshort {short}\nlong  {after}"
    # What both ways take goes the short way, or it is of no use.
    assert refused <= taken / 20


@pytest.mark.parametrize("position", [position for position, vector in enumerate(VECTORS) if vector["valid"]])
def test_what_is_valid_goes_the_short_way(position: int) -> None:
    values = VECTORS[position]["input"]
    schema = entities.schema(VECTORS[position]["entity"])
    given = schema._expanded(values, schema._variant_or_self(values))
    short, long = _both_ways(schema, given, "insert")
    assert short is not None or long is None
    if long is not None:
        assert _both_ways(schema, long, "update")[0] is not None


class _Inner(Record):
    key: str = field(kinds.string(), auto=True, doc="Random.")
    words: list[str] = field(kinds.array(kinds.string()), default=["a"], doc="Some words.")


class _Outer(Record):
    inner: dict[str, Any] = field(kinds.record(_Inner), doc="Some things.")
    by_name: dict[str, Any] = field(kinds.map_of(kinds.string(), kinds.record(_Inner)), default={"a": {}}, doc="More of them.")


def test_no_two_rows_share_what_was_filled_in() -> None:
    one, other = (schema_of(_Outer).insert({}) for _ in range(2))
    assert one["inner"]["key"] != other["inner"]["key"]
    one["inner"]["words"].append("b")
    one["by_name"]["a"]["words"].append("b")
    assert other["inner"]["words"] == ["a"]
    assert other["by_name"]["a"]["words"] == ["a"]
    assert schema_of(_Outer).insert({})["by_name"]["a"]["words"] == ["a"]


def test_a_row_shares_nothing_with_what_was_given() -> None:
    given = {"name": "r", "paths": ["/a"], "headers": {"x-a": ["1"]}, "service": {"id": new_uuid()}}
    row = entities.schema("routes").insert(given)
    changed = entities.schema("routes").update(row, {"tags": ["a"]})
    for name in ("paths", "headers", "service", "protocols"):
        assert row[name] is not given.get(name)
        assert changed[name] is not row[name]
    assert row["headers"]["x-a"] is not given["headers"]["x-a"]  # type: ignore[index]  # values of many kinds


@pytest.mark.parametrize("value", [5, "a", None, [1, [2]], {"a": {"b": [1]}, "c": 1}, {"a": 1}, (1, [2])])
def test_a_copy_is_the_same_and_shares_nothing(value: Any) -> None:
    copy = copier(value)
    assert copied(value) == value == copy() == copy()
    if isinstance(value, (dict, list)):
        assert copied(value) is not value
        assert copy() is not copy()


def test_an_id_is_a_uuid_of_version_4() -> None:
    made = {new_uuid() for _ in range(200)}
    assert len(made) == 200
    assert all(is_uuid(one) and one[14] == "4" and one[19] in "89ab" for one in made)
