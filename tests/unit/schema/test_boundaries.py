# SPDX-License-Identifier: Apache-2.0
"""Is every limit of the facts held at its edge, and told in Kong's words beyond it?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae import entities
from pylae.schema import Field, Record
from pylae.schema.validate import schema_of
from pylae.sdk import loader

FACTS = Path(__file__).parents[2] / "facts" / "kong"
PLUGINS = loader.load(["bundled"])
entities.enable_plugins(PLUGINS)
ENTITIES = json.loads((FACTS / "entities.json").read_text())["entities"]
JUDGE = schema_of(Record)

Limited = tuple[str, Field, dict[str, Any]]


def _fields(path: str, facts: list[dict[str, Any]], declared: dict[str, Field]) -> Iterator[Limited]:
    for fact in facts:
        yield from _inside(f"{path}.{fact['name']}", fact, declared[fact["name"]])


def _inside(path: str, fact: dict[str, Any], declared: Field) -> Iterator[Limited]:
    """A field of the facts and all fields inside, each with ours."""
    yield path, declared, fact
    for part in ("elements", "keys", "values"):
        inner = getattr(declared, part)
        if part in fact:
            yield from _inside(f"{path}.{part}", fact[part], inner)
    if declared.record is not None:
        yield from _fields(path, fact.get("fields", []), declared.record.fields)


def _all() -> Iterator[Limited]:
    for table, entity in entities.registry().items():
        # Of what Kong sells there are no facts.
        if table in ENTITIES:
            yield from _fields(table, ENTITIES[table]["fields"], entity.fields)
    for path in sorted((FACTS / "plugins").glob("*.json")):
        facts = json.loads(path.read_text())
        yield from _fields(path.stem, facts["config"]["fields"], PLUGINS[path.stem].Config.fields)


ALL = list(_all())


def _with(*names: str) -> list[Any]:
    return [pytest.param(declared, fact, id=path) for path, declared, fact in ALL if all(name in fact for name in names)]


def _violation(declared: Field, value: Any) -> Any:
    """What is wrong with a value by both ways, which have to agree."""
    error = JUDGE.violation(declared, value)
    assert JUDGE.holds(declared)(value) == (error is None)
    return error


@pytest.mark.parametrize(("declared", "fact"), _with("between"))
def test_a_number_may_lie_on_its_bounds_and_not_beyond(declared: Field, fact: dict[str, Any]) -> None:
    lowest, highest = fact["between"]
    text = fact.get("message", f"value should be between {int(lowest)} and {int(highest)}")
    assert _violation(declared, lowest) is None
    assert _violation(declared, highest) is None
    assert _violation(declared, lowest - 1) == text
    assert _violation(declared, highest + 1) == text


@pytest.mark.parametrize(("declared", "fact"), _with("gt"))
def test_a_number_is_greater_than_its_bound(declared: Field, fact: dict[str, Any]) -> None:
    assert _violation(declared, fact["gt"] + 1) is None
    assert _violation(declared, fact["gt"]) == fact.get("message", f"value must be greater than {fact['gt']}")


@pytest.mark.parametrize(("declared", "fact"), _with("one_of"))
def test_a_value_is_one_of_those_listed(declared: Field, fact: dict[str, Any]) -> None:
    for value in fact["one_of"]:
        assert _violation(declared, value) is None
    other: Any = "none of them" if declared.type == "string" else 12345
    listed = ", ".join(map(str, fact["one_of"]))
    assert _violation(declared, other) == fact.get("message", f"expected one of: {listed}")


@pytest.mark.parametrize(("declared", "fact"), [one for one in _with("type") if one.values[1].get("type") == "string"])
def test_text_is_as_long_as_it_must_be(declared: Field, fact: dict[str, Any]) -> None:
    least, most = fact.get("len_min", fact.get("len_eq", 1)), fact.get("len_max", fact.get("len_eq"))
    if least > 0:
        exactly = f"length must be {fact.get('len_eq')}"
        texts = (exactly if "len_eq" in fact else f"length must be at least {least}", fact.get("message"))
        # what is listed or must begin with something is refused for that first
        looks_earlier = {"one_of", "uuid", "must_equal"} & fact.keys()
        assert _violation(declared, "a" * (least - 1)) in texts or looks_earlier
    if most is not None:
        text = f"length must be {most}" if "len_eq" in fact else f"length must be at most {most}"
        assert _violation(declared, "a" * (most + 1)) == text


@pytest.mark.parametrize(("declared", "fact"), [one for one in _with("type") if one.values[1]["type"] != "json"])
def test_a_value_of_another_type_is_told_the_type(declared: Field, fact: dict[str, Any]) -> None:
    wrong: Any = 5 if fact["type"] in ("string", "record", "map", "array", "set", "foreign", "boolean") else "5"
    article = "an" if fact["type"][0] in "aeiou" else "a"
    expected: Any = {"id": "missing primary key"} if fact["type"] == "foreign" else f"expected {article} {fact['type']}"
    if "must_equal" in fact and fact["must_equal"] is None:
        expected = fact.get("message", "value must be null")
    assert _violation(declared, wrong) == expected


@pytest.mark.parametrize(("declared", "fact"), _with("type"))
def test_null_is_refused_where_something_is_required(declared: Field, fact: dict[str, Any]) -> None:
    if not fact.get("required") and not declared.required:
        assert _violation(declared, None) is None
    elif "must_not_equal" not in fact:
        assert _violation(declared, None) == "required field missing"
