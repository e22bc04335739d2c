# SPDX-License-Identifier: Apache-2.0
"""Do the errors say what Kong's say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pylae import errors
from pylae.lua_text import lua_table, lua_value

CODES = json.loads((Path(__file__).parents[1] / "facts" / "kong" / "admin-api.json").read_text())["errors"]["codes"]
UUID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("error", errors.DATABASE_ERRORS, ids=lambda error: error.__name__)
def test_codes_and_names_are_kongs(error: type[errors.DatabaseError]) -> None:
    if error is not errors.InvalidUnique:
        assert CODES[str(error.code)][0] == error.name


@pytest.mark.parametrize(
    ("error", "message", "fields"),
    [
        (errors.InvalidPrimaryKey({"id": "x"}), "invalid primary key: '{id=\"x\"}'", {"id": "x"}),
        (errors.PrimaryKeyViolation({"id": UUID}), f"primary key violation on key '{{id=\"{UUID}\"}}'", {"id": UUID}),
        (
            errors.ForeignKeyViolation.dangling("service", {"id": UUID}, "services"),
            f"the foreign key '{{id=\"{UUID}\"}}' does not reference an existing 'services' entity.",
            {"service": {"id": UUID}},
        ),
        (
            errors.ForeignKeyViolation.referenced("services", "routes"),
            "an existing 'routes' entity references this 'services' entity",
            {"@referenced_by": "routes"},
        ),
        (errors.UniqueViolation({"name": "good"}), "UNIQUE violation detected on '{name=\"good\"}'", {"name": "good"}),
        (
            errors.UniqueViolation({"name": "key-auth", "route": None, "service": {"id": UUID}, "consumer": None}),
            f'UNIQUE violation detected on \'{{consumer=null,name="key-auth",route=null,service={{id="{UUID}"}}}}\'',
            {"name": "key-auth", "route": None, "service": {"id": UUID}, "consumer": None},
        ),
        (errors.NotFound({"id": "x"}), "could not find the entity with primary key '{id=\"x\"}'", {"id": "x"}),
        (
            errors.NotFound({"name": "x"}, is_primary_key=False),
            "could not find the entity with '{name=\"x\"}'",
            {"name": "x"},
        ),
        (errors.InvalidOffset("zzz", "bad json encoding"), "'zzz' is not a valid offset: bad json encoding", None),
        (errors.InvalidSize(), "size must be an integer between 1 and 1000", None),
    ],
)
def test_messages_are_kongs(error: errors.DatabaseError, message: str, fields: dict[str, Any] | None) -> None:
    assert error.message == message
    assert error.body() == {
        "code": error.code,
        "name": error.name,
        "message": message,
        **({} if fields is None else {"fields": fields}),
    }


def test_options_are_listed() -> None:
    error = errors.InvalidOptions({"tags": "invalid filter syntax"})
    assert error.body() == {
        "code": 11,
        "name": "invalid options",
        "message": "invalid option (tags: invalid filter syntax)",
        "options": {"tags": "invalid filter syntax"},
    }


def test_a_wrong_unique_value_names_its_field() -> None:
    assert errors.InvalidUnique("name", "expected a string").body()["name"] == "invalid unique name"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a", "b"], '{\n  "a",\n  "b"\n}'),
        ([None, "b"], '{\n  [2] = "b"\n}'),
        ({"a b": 1, "end": True, "c": {"d": None}}, '{\n  ["a b"] = 1,\n  c = {\n    d = null\n  },\n  ["end"] = true\n}'),
        ({}, "{\n}"),
        ("a\nb", "[=[\na\nb]=]"),
    ],
)
def test_tables_are_written_as_penlight_does(value: Any, text: str) -> None:
    assert lua_table(value) == text


@pytest.mark.parametrize(("value", "text"), [(5.0, "5"), (0.5, "0.5"), (True, "true"), (10**20, "1e+20"), ('a"b', '"a\\"b"')])
def test_scalars_are_written_as_lua_does(value: Any, text: str) -> None:
    assert lua_value(value) == text
