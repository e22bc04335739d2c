# SPDX-License-Identifier: Apache-2.0
"""When are rules between fields judged, and what do they say?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.errors import SchemaViolation
from pylae.schema import (
    Record,
    conditional,
    custom,
    distinct,
    field,
    kinds,
    mutually_exclusive,
    mutually_required,
    only_one_of,
    schema_of,
)


class _Pair(Record):
    a: str | None = field(kinds.string(), doc="One.")
    b: str | None = field(kinds.string(), doc="Other.")


def _entity_errors(check: Any, values: dict[str, Any]) -> list[str]:
    record = type("Pair", (_Pair,), {"checks": (check,)})
    try:
        schema_of(record).insert(values)
    except SchemaViolation as error:
        return list((error.fields or {}).get("@entity", []))
    return []


@pytest.mark.parametrize(
    ("check", "values", "text"),
    [
        (only_one_of("a", "b"), {"a": "1"}, None),
        (only_one_of("a", "b"), {"a": "1", "b": "2"}, "exactly one of these fields must be non-empty: 'a', 'b'"),
        (only_one_of("a", "b"), {}, "exactly one of these fields must be non-empty: 'a', 'b'"),
        (mutually_required("a", "b"), {"a": "1"}, "all or none of these fields must be set: 'a', 'b'"),
        (mutually_required("a", "b"), {}, None),
        (mutually_exclusive("a", "b"), {"a": "1", "b": "2"}, "only one or none of these fields must be set: 'a', 'b'"),
        (distinct("a", "b"), {"a": "1", "b": "1"}, "values of these fields must be distinct: 'a', 'b'"),
        (distinct("a", "b"), {}, None),
        (custom("a", "b", rule=lambda row: f"{row['a']} and {row['b']}"), {"a": "1"}, "1 and None"),
        (conditional("a", {"eq": "1"}, "b", {"required": True}, then_error="b is missing"), {"a": "1"}, "b is missing"),
        (conditional("a", {"eq": "1"}, "b", {"required": True}), {"a": "2"}, None),
        (
            conditional("a", {"one_of": ["1"]}, "b", {"len_min": 2}),
            {"a": "1", "b": "x"},
            "failed conditional validation given value of field 'a'",
        ),
    ],
)
def test_a_check_says_what_is_wrong(check: Any, values: dict[str, Any], text: str | None) -> None:
    assert _entity_errors(check, values) == ([] if text is None else [text])


def test_a_check_is_not_judged_when_one_of_its_fields_is_wrong() -> None:
    assert _entity_errors(only_one_of("a", "b"), {"a": 1, "b": "x"}) == []


def test_a_check_that_decides_by_a_missing_field_says_so() -> None:
    record = type("Pair", (_Pair,), {"checks": (conditional("a", {"eq": "1"}, "b", {"required": True}),)})
    with pytest.raises(SchemaViolation, match=r"\(a: field required for entity check\)"):
        schema_of(record).validate({"b": "x"})


def test_a_rule_judges_the_whole_record() -> None:
    inner = type("Inner", (_Pair,), {"rule": staticmethod(lambda values: "no" if values["a"] == "1" else None)})
    outer = type("Outer", (Record,), {"inner": field(kinds.record(inner), doc="A pair.")})
    with pytest.raises(SchemaViolation, match=r"\(inner: no\)"):
        schema_of(outer).insert({"inner": {"a": "1"}})
