# SPDX-License-Identifier: Apache-2.0
"""Which values did a form mean?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


@pytest.mark.parametrize(
    ("table", "form", "values"),
    [
        ("services", {"host": "a", "port": "80", "retries": "5.0"}, {"host": "a", "port": 80, "retries": 5}),
        ("services", {"url": "http://a", "enabled": "false"}, {"url": "http://a", "enabled": False}),
        ("services", {"name": "", "tags": ""}, {"name": None, "tags": None}),
        ("routes", {"paths": "/a"}, {"paths": ["/a"]}),
        ("routes", {"paths": ["/a", "/b"]}, {"paths": ["/a", "/b"]}),
        ("routes", {"paths": {"2": "/b", "1": "/a", "10": "/c"}}, {"paths": ["/a", "/b", "/c"]}),
        ("routes", {"headers": {"x-a": ["1", "2"], "x-b": "3"}}, {"headers": {"x-a": ["1", "2"], "x-b": ["3"]}}),
        ("routes", {"service": {"id": "x"}, "regex_priority": "-1"}, {"service": {"id": "x"}, "regex_priority": -1}),
        (
            "routes",
            {"protocols": "tcp", "destinations": {"1": {"port": "5000"}}},
            {"protocols": ["tcp"], "destinations": [{"port": 5000}]},
        ),
        (
            "plugins",
            {"name": "rate-limiting", "config": {"minute": "5", "redis": {"port": "7000"}, "redis_ssl": "true"}},
            {"name": "rate-limiting", "config": {"minute": 5, "redis": {"port": 7000}, "redis_ssl": True}},
        ),
        ("upstreams", {"healthchecks": {"active": {"timeout": "0.5"}}}, {"healthchecks": {"active": {"timeout": 0.5}}}),
        ("plugins", {"name": "nope", "config": {"minute": "5"}}, {"name": "nope", "config": {"minute": "5"}}),
        ("services", {"nope": "1"}, {"nope": "1"}),
    ],
    ids=str,
)
def test_text_becomes_what_its_field_holds(table: str, form: dict[str, Any], values: dict[str, Any]) -> None:
    assert entities.schema(table).process_form(form) == values


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"port": "eighty"}, "port: expected an integer"),
        ({"port": "1.5"}, "port: expected an integer"),
        ({"enabled": "yes"}, "enabled: expected a boolean"),
        ({"port": "0x50"}, "port: expected an integer"),
    ],
)
def test_text_that_does_not_convert_is_refused_by_the_validation(form: dict[str, str], text: str) -> None:
    schema = entities.schema("services")
    with pytest.raises(SchemaViolation, match=text):
        schema.insert(schema.process_form({"host": "a", **form}))
