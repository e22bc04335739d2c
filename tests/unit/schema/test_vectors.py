# SPDX-License-Identifier: Apache-2.0
"""Does validation accept, store and refuse what Kong's own schema code does, with the same words?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.schema import Record
from pylae.schema.record import default_of
from pylae.sdk import loader

FACTS = Path(__file__).parents[2] / "facts" / "kong"
PLUGINS = loader.load(["bundled"])
WITHOUT_VECTORS = {
    *("filter_chains", "clustering_data_planes", "parameters", "tags", "acme_storage", "oauth2_authorization_codes"),
    *("mtls_auth_credentials", "ratelimiting_metrics", "sessions", "session_metadatas"),
}
"""Entities of which the facts hold no example."""
PLACEHOLDERS = {"<uuid>", "<now>", "<random>", "<random32>"}


def _vectors() -> list[Any]:
    entities.enable_plugins(PLUGINS)
    known = entities.registry()
    vectors = json.loads((FACTS / "schema-vectors.json").read_text())["vectors"]
    return [
        pytest.param(vector, id=f"{position}-{vector['entity']}")
        for position, vector in enumerate(vectors)
        if vector["entity"] in known and (vector["entity"] != "plugins" or vector["input"].get("name") in PLUGINS)
    ]


VECTORS = _vectors()


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


def _matches(expected: Any, actual: Any) -> bool:
    if isinstance(expected, str) and expected in PLACEHOLDERS:
        return actual is not None
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and expected.keys() == actual.keys()
            and all(_matches(value, actual[name]) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and len(expected) == len(actual) and all(map(_matches, expected, actual))
    return bool(expected == actual and type(expected) is type(actual)) or (
        isinstance(expected, (int, float)) and not isinstance(expected, bool) and expected == actual
    )


def _answer(vector: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """What the Admin API would answer with: the row, or the error."""
    schema = entities.schema(vector["entity"])
    try:
        row = schema.insert(vector["input"])
    except SchemaViolation as error:
        return False, error.body()
    return True, schema.present(row)


def _expected(vector: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """What Kong's Admin API answered, where that is known to differ from its schema code."""
    recorded = vector.get("kong_admin_api")
    if recorded is not None and recorded["body"].get("name") != "foreign key violation":  # told by the database
        return recorded["status"] < 400, recorded["body"]
    if recorded is not None:
        return True, {**vector["stored"], "ttl": None}
    return vector["valid"], vector["stored"] if vector["valid"] else vector["error"]


def _without_engine_text(answer: dict[str, Any]) -> str:
    """An error up to where the words of a regular expression or crypto library begin."""
    return re.split(r"(PCRE returned|invalid certificate): ", str(answer["message"]))[0]


def _words(answer: dict[str, Any]) -> list[str]:
    """What an answer says, in no order."""
    return sorted(re.findall(r"\w+", json.dumps(answer)))


def _close_enough(vector: dict[str, Any], actual: dict[str, Any], expected: dict[str, Any]) -> bool:
    if vector.get("engine_text") or "invalid certificate" in str(expected.get("message")):
        return _without_engine_text(actual) == _without_engine_text(expected)
    if "ttl" in expected and vector["input"].get("ttl"):
        expected = {**expected, "ttl": vector["input"]["ttl"], "key": "<random32>"}
    if vector.get("list_order_unstable"):
        return _words(actual) == _words(expected)
    return _matches(expected, actual)


@pytest.mark.parametrize("vector", VECTORS)
def test_input_is_stored_or_refused_as_kong_does(vector: dict[str, Any]) -> None:
    valid, actual = _answer(vector)
    expected_valid, expected = _expected(vector)
    assert (valid, actual) == (expected_valid, actual)
    assert _close_enough(vector, actual, expected), f"\nexpected {expected}\nactual   {actual}"


def test_the_vectors_cover_every_entity_and_plugin_of_this_gateway() -> None:
    covered = {vector.values[0]["entity"] for vector in VECTORS}
    assert set(entities.registry()) - covered <= WITHOUT_VECTORS


def _defaults(declaration: type[Record]) -> dict[str, Any]:
    """What is known of a configuration of which nothing was said: all but what has to be given."""
    defaults: dict[str, Any] = {}
    for name, declared in declaration.fields.items():
        value = default_of(declared)
        if declared.record is not None and value is not None:
            value = {**_defaults(declared.record), **(declared.default or {})}
        if value is not None or declared.auto or not declared.required:
            defaults[name] = value
    return defaults


def _comparable(value: Any, name: str = "") -> Any:
    """A configuration without what is random, and without nulls in lists, which Kong's schema code fills in later."""
    if name in ("provision_key", "secret"):
        return "<random>"
    if isinstance(value, list):
        return [
            {inner: given for inner, given in item.items() if given is not None} if isinstance(item, dict) else item
            for item in value
        ]
    return {inner: _comparable(given, inner) for inner, given in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", sorted(path.stem for path in (FACTS / "plugins").glob("*.json")))
def test_a_plugin_without_a_word_of_configuration_is_taken_or_refused_as_kong_does(name: str) -> None:
    facts = json.loads((FACTS / "plugins" / f"{name}.json").read_text())["empty_config"]
    schema = entities.schema("plugins")
    error = None
    config = _defaults(PLUGINS[name].Config)
    try:
        config = schema.insert({"name": name, "config": {}})["config"]
    except SchemaViolation as violation:
        error = violation.body()
    assert (error is None) == facts["accepted"]
    assert error == facts["error"]
    assert _comparable(config) == _comparable(facts["config_after_defaults"])
