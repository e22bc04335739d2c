# SPDX-License-Identifier: Apache-2.0
"""Does each document of tests/cases/declarative give the rows, or the errors, that stand beside it?

`rows`: the fields that matter of every row, by table, in any order. `fields`: of the error. `flattened_errors`: the
same with `flatten_errors`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pylae.database.dao import Catalogue
from pylae.database.strategies.off.holding import decode_row
from pylae.declarative import parse
from pylae.errors import InvalidDeclarativeConfig
from pylae.lua_text import lua_line

FOLDER = Path(__file__).parents[2] / "cases" / "declarative"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def outcome(text: bytes, catalogue: Catalogue, *, flatten_errors: bool) -> dict[str, Any]:
    try:
        holding = parse(text).flatten(catalogue, flatten_errors=flatten_errors)
    except InvalidDeclarativeConfig as error:
        body = error.body()
        assert (body["code"], body["name"]) == (14, "invalid declarative configuration")
        assert body["message"] == f"declarative config is invalid: {lua_line(body['fields'])}"
        return body
    return {"rows": {name: [decode_row(row) for row in rows.encoded.values()] for name, rows in holding.items() if rows.encoded}}


def has(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(row[field] == value for field, value in expected.items())


@pytest.mark.parametrize("case", CASES)
def test_a_document_means_what_it_says(case: str, catalogue: Catalogue) -> None:
    expected = json.loads((FOLDER / f"{case}.json").read_text())
    text = (FOLDER / f"{case}.yaml").read_bytes()
    got = outcome(text, catalogue, flatten_errors="flattened_errors" in expected)
    if "rows" not in expected:
        assert {name: got[name] for name in expected if name in got} == expected
        return
    assert "rows" in got, got
    assert {name: len(rows) for name, rows in got["rows"].items()} == {name: len(rows) for name, rows in expected["rows"].items()}
    for name, rows in expected["rows"].items():
        for row in rows:
            assert any(has(one, row) for one in got["rows"][name]), (row, got["rows"][name])


def test_every_case_has_an_expectation() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == CASES
