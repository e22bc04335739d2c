# SPDX-License-Identifier: Apache-2.0
"""What does `GET /schemas/...` show of a declaration?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pylae.schema.checks import Check, Conditional, ConditionalAtLeastOneOf, FieldsCheck, RuleCheck
from pylae.schema.field import UNSET, Field, Pattern

if TYPE_CHECKING:
    from pylae.schema.shorthands import Shorthand
    from pylae.schema.validate import Schema


def schema_json(schema: Schema) -> dict[str, Any]:
    """An entity: its fields in order and the rules between them; functions are left out."""
    shown: dict[str, Any] = {
        "fields": fields_json(schema.fields.values()),
        "entity_checks": checks_json(schema.checks),
    }
    if schema.shorthands:
        shown["shorthand_fields"] = [{short.name: shorthand_json(short)} for short in schema.shorthands]
    return shown


def fields_json(fields: Iterable[Field]) -> list[dict[str, Any]]:
    """Fields in order, each as an object of one name."""
    return [{declared.name: field_json(declared)} for declared in fields if declared.name != "ttl" or not declared.unit]


def field_json(declared: Field) -> dict[str, Any]:
    """The attributes of one field under Kong's names."""
    shown: dict[str, Any] = {"type": declared.type}
    if declared.record is not None:
        from pylae.schema.validate import schema_of

        inner = schema_of(declared.record)
        if not declared.abstract:
            shown["fields"] = fields_json(inner.fields.values())
        if inner.checks:
            shown["entity_checks"] = checks_json(inner.checks)
        if inner.shorthands:
            shown["shorthand_fields"] = [{short.name: shorthand_json(short)} for short in inner.shorthands]
    for part in ("elements", "keys", "values"):
        inner_field = getattr(declared, part)
        if inner_field is not None:
            shown[part] = field_json(inner_field)
    if declared.references is not None:
        shown["reference"] = declared.references
        if declared.on_delete != "restrict":
            shown["on_delete"] = declared.on_delete
    for attribute, name in (
        ("required", "required"),
        ("auto", "auto"),
        ("unique", "unique"),
        ("unique_across_ws", "unique_across_ws"),
        ("abstract", "abstract"),
        ("immutable", "immutable"),
        ("transient", "transient"),
        ("is_marked_encrypted", "encrypted"),
        ("referenceable", "referenceable"),
    ):
        if getattr(declared, attribute):
            shown[name] = True
    if declared.json_schema is not None:
        shown["json_schema"] = dict(declared.json_schema)
    if declared.default is not UNSET:
        shown["default"] = declared.default
    if declared.deprecated is not None:
        shown["deprecation"] = {"removal_in_version": declared.deprecated, "message": declared.doc}
    if declared.doc:
        shown["description"] = declared.doc
    return {**shown, **limits_json(declared)}


def limits_json(declared: Field) -> dict[str, Any]:
    """The limits of one field under Kong's names."""
    limits = declared.limits
    shown: dict[str, Any] = {}
    for name in ("eq", "ne", "contains"):
        value = getattr(limits, name)
        if value is not UNSET:
            shown[name] = value
    for name in ("timestamp", "uuid", "is_regex"):
        if getattr(limits, name):
            shown[name] = True
    for name in ("gt", "len_eq", "len_min", "len_max", "starts_with"):
        value = getattr(limits, name)
        if value is not None:
            shown[name] = value
    for name in ("one_of", "not_one_of", "between", "mutually_exclusive_subsets"):
        value = getattr(limits, name)
        if value is not None:
            shown[name] = list(value)
    for name in ("match", "not_match"):
        value = getattr(limits, name)
        if value is not None:
            shown[name] = value.lua
    for name in ("match_all", "match_none"):
        value = getattr(limits, name)
        if value is not None:
            shown[name] = [{"pattern": pattern.lua, "err": message} for pattern, message in value]
    if limits.match_any is not None:
        patterns, message = limits.match_any
        shown["match_any"] = {"patterns": [_lua(pattern) for pattern in patterns], **({"err": message} if message else {})}
    if limits.error is not None:
        shown["err"] = limits.error
    return shown


def checks_json(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The rules between fields under Kong's names."""
    return [{check.kind: _check_json(check)} for check in checks]


def shorthand_json(short: Shorthand) -> dict[str, Any]:
    """The attributes of another name for a value."""
    shown = field_json(short.kind)
    if short.replaced_with is not None:
        replaced_with = [{"path": short.replaced_with.split(".")}]
        message = f"{short.name} is deprecated, please use {short.replaced_with} instead"
        shown["deprecation"] = {"replaced_with": replaced_with, "message": message, "removal_in_version": "4.0"}
    return shown


def _check_json(check: Check) -> Any:
    match check:
        case FieldsCheck(fields=fields):
            return list(fields)
        case RuleCheck(fields=fields):
            return {"field_sources": list(fields)}
        case Conditional():
            shown: dict[str, Any] = {
                "if_field": check.if_field,
                "if_match": _match_json(check.if_match),
                "then_field": check.then_field,
                "then_match": _match_json(check.then_match),
            }
            return shown if check.then_error is None else {**shown, "then_err": check.then_error}
        case ConditionalAtLeastOneOf():
            return _conditional_list_json(check)
        case _:
            raise TypeError(f"unknown check `{check!r}`")


def _conditional_list_json(check: ConditionalAtLeastOneOf) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "if_field": check.if_field,
        "if_match": _match_json(check.if_match),
        "then_at_least_one_of": list(check.then_at_least_one_of),
    }
    if check.then_error is not None:
        shown["then_err"] = check.then_error
    if check.else_match is not None:
        shown["else_match"] = _match_json(check.else_match)
        shown["else_then_at_least_one_of"] = list(check.else_then_at_least_one_of)
    if check.else_then_error is not None:
        shown["else_then_err"] = check.else_then_error
    return shown


def _match_json(match: Field) -> Mapping[str, Any]:
    shown = limits_json(match)
    if match.required:
        shown["required"] = True
    if match.elements is not None:
        shown["elements"] = limits_json(match.elements)
    return shown


def _lua(pattern: Pattern) -> str:
    return pattern.lua
