# SPDX-License-Identifier: Apache-2.0
"""Which entities are there, in which order, and how do they hang together?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pylae import entities
from pylae.schema import Entity, field, kinds
from pylae.schema.ddl import table_of
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])
ENTITIES = json.loads((Path(__file__).parents[2] / "facts" / "kong" / "entities.json").read_text())["entities"]


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


def test_parents_come_before_their_children() -> None:
    seen: set[str] = set()
    for table, entity in entities.registry().items():
        parents = {declared.references for declared in entity.fields.values() if declared.references is not None}
        assert parents <= seen, table
        seen.add(table)


def test_plugins_bring_their_entities() -> None:
    assert "keyauth_credentials" in entities.registry()
    assert ("keyauth_credentials", "consumer") in {(entity.table, name) for entity, name in entities.children_of("consumers")}


def test_two_entities_may_not_share_a_table() -> None:
    class Other(Entity):
        """An impostor."""

        table = "services"
        id: str = field(kinds.string(uuid=True), auto=True, doc="An id.")

    with pytest.raises(ValueError, match="two entities have the table `services`"):
        entities.add(Other)
    entities.add(entities.registry()["services"])


@pytest.mark.parametrize("table", [entity.table for entity in entities.CORE])
def test_a_table_has_a_column_for_each_field_that_is_kept(table: str) -> None:
    entity = entities.registry()[table]
    columns = {column.field: column for column in table_of(entity).columns}
    kept = [declared for declared in ENTITIES[table]["fields"] if not declared.get("transient")]
    assert list(columns) == [declared["name"] for declared in kept]
    for declared in kept:
        column = columns[declared["name"]]
        assert column.references == declared.get("references")
        assert column.is_unique == bool(declared.get("unique"))
        assert column.name == (f"{declared['name']}_id" if declared["type"] == "foreign" else declared["name"])
    (primary_key,) = ENTITIES[table]["primary_key"]
    assert columns[primary_key].is_primary_key


@pytest.mark.parametrize("flavor", ["traditional", "traditional_compatible", "expressions"])
def test_routes_follow_the_router_flavor(flavor: str) -> None:
    entities.use_router_flavor(flavor)
    try:
        has_expression = "expression" in entities.registry()["routes"].fields
        assert list(entities.registry()).index("routes") < list(entities.registry()).index("plugins")
    finally:
        entities.use_router_flavor("traditional_compatible")
    assert has_expression == (flavor == "expressions")


def test_a_cache_key_of_several_fields_is_unique_together() -> None:
    assert table_of(entities.registry()["targets"]).unique_together == ("upstream_id", "target")
    assert table_of(entities.registry()["keyauth_credentials"]).unique_together is None
    assert table_of(entities.registry()["keyauth_credentials"]).has_ttl
    with pytest.raises(KeyError):
        table_of(entities.registry()["keyauth_credentials"]).column("ttl")
