# SPDX-License-Identifier: Apache-2.0
"""Does a value hold to its declaration, what is filled in, and which text says what is wrong?

The texts, and the order in which things are looked at, are Kong's: tests/facts/kong/schema-vectors.json.
"""

from __future__ import annotations

import re
import secrets
import string
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, Final, Literal

from pylae.errors import SchemaViolation
from pylae.lua_text import lua_tostring
from pylae.schema import kinds
from pylae.schema.checks import Check, get_field
from pylae.schema.field import UNSET, Field, Limits, Pattern, Rule
from pylae.schema.record import Entity, Record, Variant, default_of
from pylae.schema.rules import RULES, is_reference
from pylae.schema.shorthands import Shorthand

UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
TTL_MAX_S: Final = 100_000_000
_KEY_CHARACTERS: Final = string.ascii_letters + string.digits
_KEY_LENGTH: Final = 32

Context = Literal["insert", "update"]


def is_uuid(value: object) -> bool:
    """Whether a value looks like a UUID, and so is an id and never a name."""
    return isinstance(value, str) and UUID.fullmatch(value) is not None


class Schema:
    """The rules of one declaration."""

    def __init__(
        self,
        declaration: type[Record],
        fields: Mapping[str, Field] | None = None,
        checks: Sequence[Check] | None = None,
    ) -> None:
        self.declaration = declaration
        self.entity: type[Entity] | None = declaration if issubclass(declaration, Entity) else None
        self.fields: dict[str, Field] = dict(declaration.fields if fields is None else fields)
        if self.entity is not None and self.entity.ttl and "ttl" not in self.fields:
            self.fields["ttl"] = kinds.number(
                between=(0, TTL_MAX_S), unit="seconds", doc="How long the row lives; for ever when null.", name="ttl"
            )
        self.checks: tuple[Check, ...] = tuple(declaration.checks if checks is None else checks)
        self.shorthands: tuple[Shorthand, ...] = tuple(declaration.shorthands)
        self._variants: dict[int, tuple[Variant, Schema]] = {}

    def __repr__(self) -> str:
        return f"<schema {self.name}>"

    @property
    def name(self) -> str:
        """The table of an entity, the class of another record."""
        return self.declaration.__name__ if self.entity is None else self.entity.table

    @property
    def foreign_fields(self) -> dict[str, Field]:
        """The fields that refer to other tables."""
        return {name: declared for name, declared in self.fields.items() if declared.type == "foreign"}

    @property
    def unique_fields(self) -> dict[str, Field]:
        """The fields of which no two rows share a value."""
        return {name: declared for name, declared in self.fields.items() if declared.unique}

    def insert(self, values: Mapping[str, Any], *, now_s: float | None = None) -> dict[str, Any]:
        """The whole row to store for what a client gave: defaults and generated values filled in.

        Args:
            values: with types as JSON has them; form values go through `process_form` first.
            now_s: seconds since the epoch, for the timestamps; the clock's when not given.

        Raises:
            SchemaViolation: 400.
        """
        row = self._expanded(values)
        self._fill(row, "insert", time.time() if now_s is None else now_s)
        return self._validated(row)

    def upsert(self, values: Mapping[str, Any], *, now_s: float | None = None) -> dict[str, Any]:
        """The whole row to store in place of any other with its key: what is left out goes back to defaults.

        Raises:
            SchemaViolation: 400.
        """
        return self.insert(values, now_s=now_s)

    def update(self, row: Mapping[str, Any], patch: Mapping[str, Any], *, now_s: float | None = None) -> dict[str, Any]:
        """The whole row after a change: records are merged, other values replaced, the primary key stays.

        Raises:
            SchemaViolation: 400.
        """
        changes = self._expanded(patch, row)
        primary_key = () if self.entity is None else self.entity.primary_key
        variant = self.variant_for({**row, **changes})
        schema = self if variant is None else variant
        errors = {
            name: "immutable field cannot be updated"
            for name, declared in schema.fields.items()
            if declared.immutable and name in changes and changes[name] != row.get(name)
        }
        if errors:
            raise SchemaViolation(errors)
        merged = _merge(schema.fields, row, changes)
        for name in primary_key:
            if name in row:
                merged[name] = row[name]
        self._fill(merged, "update", time.time() if now_s is None else now_s)
        return self._validated(merged)

    def validate(self, row: Mapping[str, Any]) -> None:
        """Looks at a row as it is, nothing filled in.

        Raises:
            SchemaViolation: it breaks the schema.
        """
        errors = self.errors(row)
        if errors:
            raise SchemaViolation(errors)

    def process_form(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a form, which are all text, in the types of their fields."""
        from pylae.schema.form import process_form

        return process_form(self, values)

    def present(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row as the Admin API shows it: with the old names of values too."""
        schema = self.variant_for(row) or self
        return schema._shown(row)

    def kong_json(self) -> dict[str, Any]:
        """The declaration as `GET /schemas/...` shows it."""
        from pylae.schema.kong_json import schema_json

        return schema_json(self)

    def field_error(self, name: str, value: Any) -> Any:
        """What is wrong with a value of one field, or `None`."""
        return self.violation(self.fields[name], value)

    def variant_for(self, row: Mapping[str, Any]) -> Schema | None:
        """The rules for rows of this row's type; `None` when there are no types or this is none of them."""
        entity = self.entity
        if entity is None or entity.subschema_key is None:
            return None
        key = _subschema_key(self, row)
        return None if key is None else self.variant(key)

    def variant(self, key: str) -> Schema | None:
        """The rules for rows of a type, such as a plugin's name; `None` for an unknown type."""
        entity = self.entity
        found = None if entity is None else entity.variant(key)
        if found is None:
            return None
        known = self._variants.get(id(found))
        if known is None:
            fields = {**self.fields, **found.fields}
            known = (found, Schema(self.declaration, fields, (*self.checks, *found.checks)))
            self._variants[id(found)] = known
        return known[1]

    def declared(self, path: str) -> Field | None:
        """The field at a dotted path."""
        name, *rest = path.split(".")
        found = self.fields.get(name)
        for inner in rest:
            if found is None or found.record is None:
                return None
            found = found.record.fields.get(inner)
        return found

    def errors(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What is wrong with a row, by field."""
        entity = self.entity
        schema = self
        if entity is not None and entity.subschema_key is not None:
            key = _subschema_key(self, row)
            given = row.get(entity.subschema_key)
            if given is None:
                return {entity.subschema_key: "required field missing"}
            found = None if key is None else self.variant(key)
            if found is None:
                return {entity.subschema_key: entity.subschema_error.replace("%s", "nil" if key is None else key)}
            schema = found
        errors: dict[str, Any] = {}
        for name, value in row.items():
            declared = schema.fields.get(name)
            error = "unknown field" if declared is None else schema.violation(declared, value)
            if error is not None:
                errors[name] = error
        for check in schema.checks:
            check.run(row, schema, errors)
        return errors

    def violation(self, declared: Field, value: Any) -> Any:
        """What is wrong with a value: a text, or texts by name or position; `None` when nothing is."""
        limits = declared.limits
        if value is None:
            if limits.ne is None:
                return limits.error or "value must not be null"
            if limits.eq is not UNSET and limits.eq is not None:
                return limits.error or f"value must be {lua_tostring(limits.eq)}"
            return "required field missing" if declared.required else None
        if limits.eq is None:
            return limits.error or "value must be null"
        error = _TYPES[declared.type](self, declared, value)
        if error is not None:
            return error
        if declared.referenceable and is_reference(value):
            return None
        error = _broken_limit(declared, limits, value)
        if error is not None:
            return limits.error or error
        if declared.record is not None and declared.record.rule is not None:
            return declared.record.rule(value)
        return None

    def _validated(self, row: dict[str, Any]) -> dict[str, Any]:
        self.validate(row)
        if self.entity is not None:
            self.entity.complete(row)
        return row

    def _expanded(self, values: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A copy of what was given, shorthands replaced by the values they stand for."""
        expanded: dict[str, Any] = deepcopy(dict(values))
        schema = self.variant_for({**(row or {}), **expanded}) or self
        errors = schema._expand(expanded)
        if errors:
            raise SchemaViolation(errors)
        return expanded

    def _expand(self, values: dict[str, Any]) -> dict[str, Any]:
        errors: dict[str, Any] = {}
        for shorthand in self.shorthands:
            if shorthand.name not in values:
                continue
            value = values[shorthand.name]
            error = self.violation(shorthand.kind, value)
            if error is None and shorthand.replaced_with is not None:
                error = _replace(values, shorthand, shorthand.replaced_with)
            elif error is None and shorthand.expand is not None:
                del values[shorthand.name]
                values.update(shorthand.expand(value, values))
            if error is not None:
                errors[shorthand.name] = error
        for name, declared in self.fields.items():
            value = values.get(name)
            if declared.record is not None and isinstance(value, dict):
                inner = schema_of(declared.record)._expand(value)
                if inner:
                    errors[name] = inner
        return errors

    def _fill(self, row: dict[str, Any], context: Context, now_s: float) -> None:
        (self.variant_for(row) or self)._fill_fields(row, context, now_s)

    def _fill_fields(self, row: dict[str, Any], context: Context, now_s: float) -> None:
        unknown = {name: row.pop(name) for name in list(row) if name not in self.fields}
        for name, declared in self.fields.items():
            row[name] = _filled(declared, row.pop(name, UNSET), context, now_s)
        row.update(unknown)

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = dict(row)
        for name, declared in self.fields.items():
            value = row.get(name)
            if declared.record is not None and isinstance(value, Mapping):
                shown[name] = schema_of(declared.record)._shown(value)
        for shorthand in self.shorthands:
            if shorthand.replaced_with is not None:
                value = get_field(row, shorthand.replaced_with)
                shown[shorthand.name] = None if value is UNSET else value
        return shown


_schemas: dict[type[Record], Schema] = {}


def schema_of(declaration: type[Record]) -> Schema:
    """The rules of a declaration, compiled once."""
    known = _schemas.get(declaration)
    if known is None:
        known = _schemas[declaration] = Schema(declaration)
    return known


def _subschema_key(schema: Schema, row: Mapping[str, Any]) -> str | None:
    """The text that chooses the type of a row; the default's when the field is not there."""
    assert schema.entity is not None
    name = schema.entity.subschema_key
    assert name is not None
    value = row.get(name, UNSET)
    declared = schema.fields[name]
    if (value is UNSET or (value is None and declared.required)) and declared.default is not UNSET:
        value = declared.default
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or value is UNSET or isinstance(value, Mapping):
        return None
    return lua_tostring(value)


def _replace(values: dict[str, Any], shorthand: Shorthand, path: str) -> str | None:
    """Moves a value to the path that took the place of its name."""
    value = values.pop(shorthand.name)
    *parents, last = path.split(".")
    inner = values
    for name in parents:
        found = inner.get(name)
        if found is None:
            found = inner[name] = {}
        if not isinstance(found, dict):
            return None
        inner = found
    present = inner.get(last)
    if present is None:
        inner[last] = value
    elif value is not None and value != present:
        return (
            "both deprecated and new field are used but their values mismatch: "
            f"{shorthand.name} = {lua_tostring(value)} vs {path} = {lua_tostring(present)}"
        )
    return None


def _merge(fields: Mapping[str, Field], row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = deepcopy(dict(row))
    for name, value in changes.items():
        declared = fields.get(name)
        present = merged.get(name)
        if declared is not None and declared.record is not None and isinstance(value, dict) and isinstance(present, dict):
            merged[name] = _merge(declared.record.fields, present, value)
        else:
            merged[name] = value
    return merged


def _filled(declared: Field, value: Any, context: Context, now_s: float) -> Any:
    """The value with what Kong fills in: generated values, defaults, nested defaults; sets without duplicates."""
    if declared.auto:
        generated = _generated(declared, value, context, now_s)
        if generated is not UNSET:
            return generated
    if value is UNSET or (value is None and declared.required and context == "insert"):
        value = default_of(declared)
    if value is None:
        return None
    if declared.record is not None:
        if value == []:
            value = {}
        if isinstance(value, dict):
            schema_of(declared.record)._fill_fields(value, context, now_s)
    elif declared.elements is not None:
        if value == {}:
            value = []
        if isinstance(value, list):
            value = [_filled_item(declared.elements, item, context, now_s) for item in value]
            if declared.type == "set":
                value = _without_duplicates(value)
    elif declared.values is not None:
        if value == []:
            value = {}
        if isinstance(value, dict):
            value = {name: _filled_item(declared.values, item, context, now_s) for name, item in value.items()}
    elif declared.type in ("integer", "number") and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _filled_item(declared: Field, item: Any, context: Context, now_s: float) -> Any:
    return None if item is None else _filled(declared, item, context, now_s)


def _generated(declared: Field, value: Any, context: Context, now_s: float) -> Any:
    """A generated value; `UNSET` when the one given stays."""
    if declared.limits.timestamp:
        if declared.name == "updated_at" or (context == "insert" and (value is UNSET or value is None)):
            return int(now_s) if declared.type == "integer" else round(now_s, 3)
        return UNSET
    if context == "update" or not (value is UNSET or value is None):
        return UNSET
    if declared.limits.uuid:
        return str(uuid.uuid4())
    if declared.type == "string":
        return "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(_KEY_LENGTH))
    return UNSET


def _without_duplicates(items: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    seen: set[tuple[type, Any]] = set()
    for item in items:
        if isinstance(item, (dict, list)):
            kept.append(item)
        elif (type(item), item) not in seen:
            seen.add((type(item), item))
            kept.append(item)
    return kept


def _string(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    if not isinstance(value, str):
        return "expected a string"
    if "\0" in value:
        return "must not contain a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        position = len(value[: error.start].encode("utf-8", "surrogatepass")) + 1
        return f"invalid utf-8 character sequence detected at position {position}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _number(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    return None if _is_number(value) else "expected a number"


def _integer(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    is_whole = _is_number(value) and (isinstance(value, int) or value.is_integer())
    return None if is_whole else "expected an integer"


def _boolean(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    return None if isinstance(value, bool) else "expected a boolean"


def _array(schema: Schema, declared: Field, value: Any) -> Any:
    if not isinstance(value, list):
        return "expected an array" if declared.type == "array" else "expected a set"
    if declared.elements is None:
        return None
    errors = [schema.violation(declared.elements, item) for item in value]
    while errors and errors[-1] is None:
        errors.pop()
    return errors or None


def _map(schema: Schema, declared: Field, value: Any) -> Any:
    if isinstance(value, list):
        value = dict(enumerate(value, 1))
    if not isinstance(value, Mapping):
        return "expected a map"
    for name, item in value.items():
        error = None if declared.keys is None else schema.violation(declared.keys, name)
        if error is None and declared.values is not None:
            error = schema.violation(declared.values, item)
        if error is not None:
            return error
    return None


def _record(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    if not isinstance(value, Mapping):
        return "expected a record"
    if declared.record is None:
        return None
    return schema_of(declared.record).errors(value) or None


def _foreign(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    if not isinstance(value, Mapping) or not value:
        return {"id": "missing primary key"}
    if value.get("id") is None:
        others = {name: "not a primary key" for name, inner in value.items() if isinstance(inner, (Mapping, list))}
        return others or None if set(value) - {"id"} else {"id": "missing primary key"}
    return None if is_uuid(value["id"]) else {"id": "expected a valid UUID"}


def _json(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    return None


_TYPES: Final[dict[str, Callable[[Schema, Field, Any], Any]]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "array": _array,
    "set": _array,
    "map": _map,
    "record": _record,
    "foreign": _foreign,
    "json": _json,
}


def _broken_limit(declared: Field, limits: Limits, value: Any) -> str | None:
    """The text of the first limit that a value of the right type breaks."""
    for judge in _LIMITS:
        error = judge(declared, limits, value)
        if error is not None:
            return error
    return None


def _equality(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    if limits.eq is not UNSET and value != limits.eq:
        return f"value must be {lua_tostring(limits.eq)}"
    if limits.ne is not UNSET and value == limits.ne:
        return f"value must not be {lua_tostring(limits.ne)}"
    if limits.not_one_of is not None and value in limits.not_one_of:
        return f"must not be one of: {_listed(limits.not_one_of)}"
    if limits.one_of is not None and value not in limits.one_of:
        return f"expected one of: {_listed(limits.one_of)}"
    return None


def _form(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    if limits.gt is not None and not value > limits.gt:
        return f"value must be greater than {lua_tostring(limits.gt)}"
    if limits.timestamp and not value > 0:
        return "expected a valid timestamp"
    if limits.uuid and not is_uuid(value):
        return "expected a valid UUID"
    if limits.is_regex:
        try:
            re.compile(value)
        except re.error:
            return f"not a valid regex: {value}"
    if limits.between is not None and not limits.between[0] <= value <= limits.between[1]:
        return f"value should be between {int(limits.between[0])} and {int(limits.between[1])}"
    return None


def _length(declared: Field, limits: Limits, value: Any) -> str | None:
    length_min = limits.len_min
    if length_min is None and declared.type == "string":
        length_min = 1
    if length_min is None and limits.len_eq is None and limits.len_max is None:
        return None
    length = len(value.encode()) if isinstance(value, str) else len(value)
    if limits.len_eq is not None and length != limits.len_eq:
        return f"length must be {limits.len_eq}"
    if length_min is not None and length < length_min:
        return f"length must be at least {length_min}"
    if limits.len_max is not None and length > limits.len_max:
        return f"length must be at most {limits.len_max}"
    return None


def _spelling(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    if limits.starts_with is not None and not value.startswith(limits.starts_with):
        return f"should start with: {limits.starts_with}"
    if limits.not_match is not None and _found(limits.not_match, value):
        return f"invalid value: {value}"
    for pattern, message in limits.match_none or ():
        if _found(pattern, value):
            return message
    if limits.match is not None and not _found(limits.match, value):
        return f"invalid value: {value}"
    for pattern, message in limits.match_all or ():
        if not _found(pattern, value):
            return message
    if limits.match_any is not None:
        patterns, message = limits.match_any
        if not any(_found(pattern, value) for pattern in patterns):
            return message
    return None


def _contents(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    if limits.contains is not UNSET and limits.contains not in value:
        return f"expected to contain: {lua_tostring(limits.contains)}"
    if limits.rule is not None:
        return rule_of(limits.rule)(value)
    return None


def _exclusion(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    if limits.mutually_exclusive_subsets is None:
        return None
    present = [subset for subset in limits.mutually_exclusive_subsets if any(item in subset for item in value)]
    if len(present) < 2:
        return None
    listed = ", ".join("(" + ", ".join(f"'{item}'" for item in subset) + ")" for subset in present)
    return f"these sets are mutually exclusive: {listed}"


_LIMITS: Final = (_equality, _form, _length, _spelling, _contents, _exclusion)


def rule_of(rule: str | Rule) -> Rule:
    """The function of a rule that may be given by name."""
    return RULES[rule] if isinstance(rule, str) else rule


@cache
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex)


def _found(pattern: Pattern, value: str) -> bool:
    return _compiled(pattern.regex).search(value) is not None


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(lua_tostring(value) for value in values)
