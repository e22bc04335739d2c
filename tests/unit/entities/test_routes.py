# SPDX-License-Identifier: Apache-2.0
"""Which Routes does the router have no use for?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae import entities
from pylae.entities.routes import ROUTE_OF_FLAVOR
from pylae.errors import SchemaViolation
from pylae.schema import schema_of


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"paths": ["~/a(?=b)"]}, "look-around, including look-ahead and look-behind, is not supported"),
        ({"headers": {"x-a": ["~*a("]}}, "regex parse error: `a(`"),
        ({"headers": {"x-a": []}}, "= expected term"),
    ],
)
def test_a_route_that_can_not_be_matched_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("routes").insert(values)
    assert list(caught.value.fields or {}) == ["@entity"]
    assert caught.value.message.startswith("schema violation (Router Expression failed validation: ")
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("flavor", "values", "text"),
    [
        ("traditional_compatible", {"expression": "true", "paths": ["/a"]}, "unknown field"),
        ("traditional", {"snis": ["*.a.com"], "protocols": ["https"]}, "invalid value: *.a.com"),
        ("expressions", {}, "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis', 'expression' when 'protocols'"),
        ("expressions", {"expression": "http.path ^="}, "--> 1:13"),
        ("expressions", {"expression": "http.pth == 1"}, "http.pth"),
        ("expressions", {"expression": 'http.path == "/a"', "protocols": ["tcp"]}, "http.path"),
        (
            "expressions",
            {"expression": 'http.path == "/a"', "paths": ["/a"]},
            "cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simul",
        ),
        (
            "expressions",
            {"expression": 'http.path == "/a"', "regex_priority": 1},
            "cannot set 'regex_priority' with 'expression' simultaneously",
        ),
        (
            "expressions",
            {"paths": ["/a"], "priority": 1},
            "cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simul",
        ),
    ],
)
def test_a_flavor_refuses_what_it_can_not_route_by(flavor: str, values: dict[str, Any], text: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        schema_of(ROUTE_OF_FLAVOR[flavor]).insert(values)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("flavor", "values"),
    [
        ("traditional", {"headers": {"x-a": []}}),
        ("traditional", {"snis": ["a.com"], "protocols": ["https"]}),
        ("expressions", {"expression": 'http.path == "/a"', "priority": 2**46 - 1}),
        ("expressions", {"sources": [{"ip": None, "port": 1}], "hosts": ["a.com"]}),
        ("expressions", {"protocols": ["tls_passthrough"], "expression": 'tls.sni == "a"'}),
    ],
)
def test_a_flavor_takes_what_it_can_route_by(flavor: str, values: dict[str, Any]) -> None:
    row = schema_of(ROUTE_OF_FLAVOR[flavor]).insert(values)
    assert {name: row[name] for name in values} == values
