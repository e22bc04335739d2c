# SPDX-License-Identifier: Apache-2.0
"""Do `/schemas/...` show the fields, types, defaults, limits and checks that Kong declares?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pylae import entities
from pylae.entities.routes import ROUTE_OF_FLAVOR
from pylae.errors import SchemaViolation
from pylae.schema import Field
from pylae.schema.checks import RuleCheck
from pylae.schema.kong_json import checks_json, field_json, fields_json, schema_json
from pylae.sdk import loader

FACTS = Path(__file__).parents[2] / "facts" / "kong"
PLUGINS = loader.load(["bundled"])
ENTITIES = json.loads((FACTS / "entities.json").read_text())["entities"]
KONG = sorted(path.stem for path in (FACTS / "plugins").glob("*.json"))
OURS = {"auth-damping", "resilience"}
"""Bundled plugins that Kong does not have."""
SOLD = {"ldap-auth-advanced", "mtls-auth", "oauth2-introspection", "openid-connect"}
"""Those that it sells, of which there are no facts."""
RENAMED = {"references": "reference", "must_equal": "eq", "must_not_equal": "ne", "message": "err"}
PLAIN = (
    *("type", "required", "auto", "unique", "unique_across_ws", "default", "transient", "referenceable"),
    *("abstract", "json_schema"),
    *("eq", "ne", "gt", "one_of", "not_one_of", "between", "len_min", "len_max", "len_eq", "starts_with"),
    *("uuid", "timestamp", "is_regex", "mutually_exclusive_subsets", "reference", "on_delete", "err"),
)
TABLES = [entity.table for entity in entities.CORE] + [
    entity.table for name, plugin in PLUGINS.items() for entity in plugin.entities if name not in OURS | SOLD
]
RULES_OF_RECORDS = {"Pem": "pem_pair"}
"""By the name of the class: rules that look at a record as a whole."""
OF_NGINX = {"acme_storage_mode", "proxy_cache_shm"}
"""Rules about what else a node of Kong was told; nothing here corresponds."""
FALSE_WHEN_ABSENT = {"required", "auto", "unique", "transient", "referenceable", "uuid", "timestamp"} | {
    "unique_across_ws",
    "abstract",
}


@pytest.fixture(autouse=True)
def enabled() -> None:
    entities.enable_plugins(PLUGINS)


def _kong(declared: dict[str, Any]) -> dict[str, Any]:
    """A declaration of the facts in the form of `/schemas/...`."""
    renamed = {RENAMED.get(name, name): value for name, value in declared.items()}
    shown = {name: value for name, value in renamed.items() if name in PLAIN}
    for name in FALSE_WHEN_ABSENT:
        if not shown.get(name):
            shown.pop(name, None)
    if shown.get("on_delete") == "restrict":
        del shown["on_delete"]
    if shown["type"] == "record":
        shown.pop("default", None)
    for name in ("match", "not_match"):
        if name in renamed:
            shown[name] = renamed[name]["lua"]
    for name in ("match_none", "match_all"):
        if name in renamed:
            shown[name] = [{"pattern": item["lua"], "err": item["message"]} for item in renamed[name]]
    if str(shown.get("default")).startswith("<random"):
        shown["default"] = "<random>"
    if "match_any" in renamed:
        shown["match_any"] = {"patterns": renamed["match_any"]["lua"], "err": renamed["match_any"]["message"]}
    for part in ("elements", "keys", "values"):
        if part in renamed:
            shown[part] = _kong(renamed[part])
    if shown["type"] == "record" and not shown.get("abstract"):
        shown["fields"] = []
    if "fields" in renamed:
        shown["fields"] = [{inner["name"]: _kong(inner)} for inner in renamed["fields"]]
    if renamed.get("entity_checks"):
        shown["entity_checks"] = [_kong_check(check) for check in renamed["entity_checks"]]
    return shown


def _kong_check(check: dict[str, Any]) -> Any:
    if check["check"] in ("at_least_one_of", "only_one_of", "distinct", "mutually_required", "mutually_exclusive"):
        return {check["check"]: check["fields"]}
    if check["check"] == "custom_entity_check":
        return {check["check"]: {"field_sources": check["fields"]}}
    rest = {name: _match(value) for name, value in check.items() if name != "check"}
    return {check["check"]: rest}


def _match(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    shown = {name: _match(inner) for name, inner in value.items() if name != "rule"}
    if "match" in value:
        shown["match"] = value["match"]["lua"]
    if "match_any" in value:
        shown["match_any"] = {"patterns": value["match_any"]["lua"]}
    return shown


def _ours(shown: Any) -> Any:
    """What we show, without what the facts do not hold."""
    if isinstance(shown, list):
        return [_ours(item) for item in shown]
    if not isinstance(shown, dict):
        return shown
    if not isinstance(shown.get("type"), str):
        return {name: _ours(value) for name, value in shown.items()}
    left_out = {"description", "deprecation", "shorthand_fields", "encrypted"} | (
        {"default"} if shown["type"] == "record" else set()
    )
    if shown.get("encrypted") and isinstance(shown.get("default"), str):
        shown = {**shown, "default": "<random>"}
    return {name: _ours(value) for name, value in shown.items() if name not in left_out}


def _secrets(fields: list[dict[str, Any]], above: str = "") -> set[str]:
    """The encrypted fields of what `/schemas/...` shows."""
    found: set[str] = set()
    for item in fields:
        for name, declared in item.items():
            found |= {above + name} if declared.get("encrypted") else set()
            found |= _secrets(declared.get("fields", []), f"{above}{name}.")
    return found


def _facts_secrets(fields: list[dict[str, Any]], above: str = "") -> set[str]:
    """The encrypted fields of the facts."""
    found = {above + declared["name"] for declared in fields if declared.get("encrypted")}
    return found.union(*(_facts_secrets(inner.get("fields", []), f"{above}{inner['name']}.") for inner in fields))


def _facts_rules(declared: dict[str, Any], path: str = "") -> dict[str, str]:
    """The named rules of a field of the facts and of all fields inside, by their place."""
    found = {path: declared["rule"]} if "rule" in declared else {}
    for part in ("elements", "keys", "values"):
        if part in declared:
            found |= _facts_rules(declared[part], f"{path}.{part}")
    for inner in declared.get("fields", ()):
        found |= _facts_rules(inner, f"{path}.{inner['name']}")
    return found


def _our_rules(declared: Field, path: str = "") -> dict[str, str]:
    """The same of a declaration."""
    rule = declared.limits.rule
    found = {} if rule is None else {path: rule if isinstance(rule, str) else rule.__name__}
    for part in ("elements", "keys", "values"):
        inner = getattr(declared, part)
        if inner is not None:
            found |= _our_rules(inner, f"{path}.{part}")
    if declared.record is not None:
        if declared.record.rule is not None:
            found[path] = RULES_OF_RECORDS[declared.record.__name__]
        for name, inner in declared.record.fields.items():
            found |= _our_rules(inner, f"{path}.{name}")
    return found


@pytest.mark.parametrize("table", TABLES)
def test_the_fields_of_an_entity_are_kongs(table: str) -> None:
    shown = entities.schema(table).kong_json()
    expected = [{declared["name"]: _kong(declared)} for declared in ENTITIES[table]["fields"]]
    assert _ours(shown["fields"]) == expected
    if table != "plugins":
        assert _secrets(shown["fields"]) == _facts_secrets(ENTITIES[table]["fields"])


@pytest.mark.parametrize("table", TABLES)
def test_the_checks_of_an_entity_are_kongs(table: str) -> None:
    shown = entities.schema(table).kong_json()["entity_checks"]
    expected = [_kong_check(check) for check in ENTITIES[table]["entity_checks"] if check["check"] != "custom_entity_check"]
    assert _ours([check for check in shown if "custom_entity_check" not in check]) == expected


@pytest.mark.parametrize("table", TABLES)
def test_an_entity_has_kongs_keys_and_names(table: str) -> None:
    facts = ENTITIES[table]
    entity = entities.registry()[table]
    assert list(entity.primary_key) == facts["primary_key"]
    assert entity.endpoint_key == facts["endpoint_key"]
    assert (None if entity.cache_key is None else list(entity.cache_key)) == facts["cache_key"]
    assert entity.workspaceable == facts["workspaceable"]
    assert entity.ttl == facts["ttl"]
    assert entity.admin_generated == (facts["admin_api"]["generated"] and table != "tags")
    assert entity.subschema_key == facts.get("subschema_key")
    assert entity.subschema_error == facts.get("subschema_error", "unknown type: %s")
    assert entity.path_name() == facts["admin_api"]["path_name"]
    assert entity.nested_name() == facts["admin_api"]["nested_path_name"]


@pytest.mark.parametrize("table", TABLES)
def test_the_named_rules_of_an_entity_are_kongs(table: str) -> None:
    expected = {declared["name"]: _facts_rules(declared) for declared in ENTITIES[table]["fields"]}
    assert {name: _our_rules(declared) for name, declared in entities.registry()[table].fields.items()} == expected


@pytest.mark.parametrize("table", TABLES)
def test_the_custom_checks_of_an_entity_look_at_the_same_fields(table: str) -> None:
    facts = [check["fields"] for check in ENTITIES[table]["entity_checks"] if check["check"] == "custom_entity_check"]
    ours = [list(check.fields) for check in entities.registry()[table].checks if isinstance(check, RuleCheck)]
    if table == "routes":
        # path_handling is only logged, and what the router looks at is one list for all its flavours
        facts = [[name for name in facts[1] if name in ours[0]]]
        ours = [sorted(ours[0], key=facts[0].index)]
    assert ours == facts


@pytest.mark.parametrize("table", TABLES)
def test_the_shorthands_of_an_entity_are_kongs(table: str) -> None:
    facts = [(short["name"], short["type"]) for short in ENTITIES[table]["shorthand_fields"]]
    assert [(short.name, short.kind.type) for short in entities.registry()[table].shorthands] == facts


def test_every_core_entity_of_kong_is_here_and_no_other() -> None:
    core = {table for table, entity in ENTITIES.items() if "owner_plugin" not in entity}
    assert {entity.table for entity in entities.CORE} == core


@pytest.mark.parametrize("kind", sorted(ENTITIES["vaults"]["subschemas"]))
def test_a_kind_of_vault_is_kongs(kind: str) -> None:
    variant = entities.registry()["vaults"].variant(kind)
    assert variant is not None
    shown = [{name: field_json(declared)} for name, declared in variant.fields.items()]
    assert _ours(shown) == [{item["name"]: _kong(item)} for item in ENTITIES["vaults"]["subschemas"][kind]["fields"]]


def test_a_vault_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("vaults").insert({"name": "hcv", "prefix": "my-hcv"})
    assert caught.value.fields == {"name": "vault 'hcv' is not installed"}


@pytest.mark.parametrize("flavor", ["traditional", "traditional_compatible", "expressions"])
@pytest.mark.parametrize("protocol", ["http", "https", "grpc", "grpcs", "tcp", "tls", "tls_passthrough", "udp"])
def test_a_route_of_a_protocol_is_kongs(flavor: str, protocol: str) -> None:
    facts_name = "expressions" if flavor == "expressions" else "traditional_and_compatible"
    facts = ENTITIES["routes"]["subschemas_by_first_protocol"][facts_name][protocol]
    variant = ROUTE_OF_FLAVOR[flavor].variant(protocol)
    assert variant is not None
    shown = {name: field_json(declared) for name, declared in variant.fields.items()}
    expected = {declared["name"]: _kong(declared) for declared in facts["field_overrides"]}
    assert _ours(shown) == expected
    assert checks_json(variant.checks) == [_kong_check(check) for check in facts["entity_checks"]]


def test_a_route_of_expressions_has_two_fields_more() -> None:
    facts = ENTITIES["routes"]["router_flavors"]["expressions"]["extra_fields"]
    shown = fields_json(ROUTE_OF_FLAVOR["expressions"].fields.values())
    expected = [{declared["name"]: _kong(declared)} for declared in [*ENTITIES["routes"]["fields"], *facts]]
    assert _ours(shown) == expected


@pytest.mark.parametrize("name", KONG)
def test_the_configuration_of_a_plugin_is_kongs(name: str) -> None:
    facts = json.loads((FACTS / "plugins" / f"{name}.json").read_text())
    shown = entities.schema("plugins").variant(name)
    assert shown is not None
    config = field_json(shown.fields["config"])
    assert _ours(config) == _kong(facts["config"])
    given = [next(iter(short)) for short in config.get("shorthand_fields", [])]
    assert given == [short["name"] for short in facts["config"].get("shorthand_fields", [])]
    expected_checks = [_kong_check(check) for check in facts["entity_checks"] if check.get("rule") not in OF_NGINX]
    assert checks_json(shown.checks) == expected_checks
    assert _secrets(config["fields"]) == _facts_secrets(facts["config"]["fields"])
    assert shown.fields["protocols"].default == facts["protocols"]["default"]
    assert list(shown.fields["protocols"].elements.limits.one_of or ()) == facts["protocols"]["allowed"]  # type: ignore[union-attr]  # a set has elements
    for scope, possible in facts["can_be_scoped_to"].items():
        assert (shown.fields[scope].limits.eq is not None) == possible


@pytest.mark.parametrize("name", KONG)
def test_a_plugin_is_kongs(name: str) -> None:
    facts = json.loads((FACTS / "plugins" / f"{name}.json").read_text())
    plugin = PLUGINS[name]
    assert (plugin.priority, plugin.version) == (facts["priority"], facts["version"])
    assert {scope for scope in plugin.scopes if scope != "global"} == {
        scope for scope, possible in facts["can_be_scoped_to"].items() if possible
    }
    assert [entity.table for entity in plugin.entities] == facts["entities"]


def test_every_plugin_of_kong_is_here_and_few_others() -> None:
    assert len(KONG) == 45
    assert set(KONG) | OURS <= set(PLUGINS) <= set(KONG) | OURS | SOLD


def test_a_schema_can_be_sent_as_json() -> None:
    for table in entities.registry():
        json.dumps(schema_json(entities.schema(table)))
