# SPDX-License-Identifier: Apache-2.0
"""Does a value hold to its declaration, what is filled in, and which text says what is wrong?

The texts, and the order in which things are looked at, are Kong's: tests/facts/kong/schema-vectors.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from pylae.errors import SchemaViolation
from pylae.lua_text import lua_tostring
from pylae.schema import kinds
from pylae.schema.checks import Check, getter
from pylae.schema.compiled import Admit, Context, Refused, compile_schema, holds_of, new_key, new_uuid, without_duplicates
from pylae.schema.copying import copied
from pylae.schema.field import UNSET, Field
from pylae.schema.limits import MAX_INTEGER, broken_limit
from pylae.schema.limits import is_uuid as is_uuid
from pylae.schema.record import Entity, Record, Variant, default_of
from pylae.schema.shorthands import Shorthand
from pylae.vaults.reference import is_reference

TTL_MAX_S: Final = 100_000_000
REQUIRED: Final = "required field missing"


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
        self._admits: dict[Context, Admit] = {}
        self._shorthand_names = frozenset(short.name for short in self.shorthands)
        self._inner: tuple[tuple[str, Schema], ...] | None = None
        self._shows_more: bool | None = None
        self._old_names = tuple(
            (short.name, getter(short.replaced_with)) for short in self.shorthands if short.replaced_with is not None
        )

    def __repr__(self) -> str:
        return f"<schema {self.name}>"

    @property
    def name(self) -> str:
        """The table of an entity, the class of another record."""
        return self.declaration.__name__ if self.entity is None else self.entity.table

    def insert(self, values: Mapping[str, Any], *, now_s: float | None = None) -> dict[str, Any]:
        """The whole row to store for what a client gave: defaults and generated values filled in.

        Args:
            values: with types as JSON has them; form values go through `process_form` first.
            now_s: seconds since the epoch, for the timestamps; the clock's when not given.

        Raises:
            SchemaViolation: 400.
        """
        schema = self._variant_or_self(values)
        given = self._expanded(values, schema)
        if given is not values:
            schema = self._variant_or_self(given)
        return self._taken(schema, given, "insert", time.time() if now_s is None else now_s)

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
        schema = self._variant_or_self({**row, **patch})
        changes = self._expanded(patch, schema)
        if changes is not patch:
            schema = self._variant_or_self({**row, **changes})
        primary_key = () if self.entity is None else self.entity.primary_key
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
        return self._taken(schema, merged, "update", time.time() if now_s is None else now_s)

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
        schema = self._variant_or_self(row)
        return schema._shown(row) if schema._has_more_to_show() else dict(row)

    def kong_json(self) -> dict[str, Any]:
        """The declaration as `GET /schemas/...` shows it."""
        from pylae.schema.kong_json import schema_json

        return schema_json(self)

    def holds(self, declared: Field) -> Callable[[Any], bool]:
        """Tells whether values, nothing filled in, hold to a declaration."""
        return holds_of(self, declared)

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
                return {entity.subschema_key: REQUIRED}
            found = None if key is None else self.variant(key)
            if found is None:
                key_field = self.fields[entity.subschema_key]
                error = None if key_field.type in _LISTS else self.violation(key_field, given)
                if error is not None:
                    return {entity.subschema_key: error}
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
            return REQUIRED if declared.required else None
        if limits.eq is None:
            return limits.error or "value must be null"
        error = _TYPES[declared.type](self, declared, value)
        if error is not None:
            return error
        if declared.referenceable and is_reference(value):
            return None
        error = broken_limit(declared, limits, value)
        if error is not None:
            return limits.error or error
        if declared.record is not None and declared.record.rule is not None:
            return declared.record.rule(value)
        return None

    def _taken(self, schema: Schema, given: dict[str, Any], context: Context, now_s: float) -> dict[str, Any]:
        """What is stored for values whose shorthands are expanded, which are left as they are.

        Args:
            schema: the rules for rows of this type.
            given: the values.
            context: what is written.
            now_s: seconds since the epoch.
        """
        try:
            row: dict[str, Any] = self._admit(schema, context)(given, now_s)
        except Refused:
            row = self._taken_the_long_way(given, context, now_s)
        if self.entity is not None:
            self.entity.complete(row)
        return row

    def _admit(self, schema: Schema, context: Context) -> Admit:
        if schema is self and self.entity is not None and self.entity.subschema_key is not None:
            raise Refused
        admit = schema._admits.get(context)
        if admit is None:
            admit = schema._admits[context] = compile_schema(schema, context)
        return admit

    def _taken_the_long_way(self, given: dict[str, Any], context: Context, now_s: float) -> dict[str, Any]:
        """The same with each step on its own, which finds out what to say of what is refused."""
        row: dict[str, Any] = copied(given)
        self._variant_or_self(row)._fill_fields(row, context, now_s)
        self.validate(row)
        return row

    def _variant_or_self(self, row: Mapping[str, Any]) -> Schema:
        return self.variant_for(row) or self

    def _expanded(self, values: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
        """What was given, shorthands replaced by the values they stand for; a copy when there are any."""
        if type(values) is dict and not schema._has_shorthands(values):
            return values
        expanded: dict[str, Any] = copied(dict(values))
        errors = schema._expand(expanded)
        if errors:
            raise SchemaViolation(errors)
        return expanded

    def _inner_schemas(self) -> tuple[tuple[str, Schema], ...]:
        """The schemas of the fields that are records."""
        if self._inner is None:
            self._inner = tuple(
                (name, schema_of(declared.record)) for name, declared in self.fields.items() if declared.record is not None
            )
        return self._inner

    def _has_shorthands(self, values: Mapping[str, Any]) -> bool:
        if not self._shorthand_names.isdisjoint(values):
            return True
        for name, inner in self._inner_schemas():
            value = values.get(name)
            if type(value) is dict and inner._has_shorthands(value):
                return True
        return False

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

    def _fill_fields(self, row: dict[str, Any], context: Context, now_s: float) -> None:
        unknown = {name: row.pop(name) for name in list(row) if name not in self.fields}
        for name, declared in self.fields.items():
            row[name] = filled(declared, row.pop(name, UNSET), context, now_s)
        row.update(unknown)

    def _has_more_to_show(self) -> bool:
        """Whether old names of values are shown, here or in a record inside."""
        if self._shows_more is None:
            self._shows_more = bool(self._old_names) or any(inner._has_more_to_show() for _, inner in self._inner_schemas())
        return self._shows_more

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = dict(row)
        for name, inner in self._inner_schemas():
            value = row.get(name)
            if inner._has_more_to_show() and isinstance(value, Mapping):
                shown[name] = inner._shown(value)
        for name, find in self._old_names:
            value = find(row)
            shown[name] = None if value is UNSET else value
        return shown


_LISTS: Final = ("array", "set")
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
    if isinstance(value, list) and declared.type in _LISTS:
        value = value[0] if value else None
    if value is None or value is UNSET or isinstance(value, (Mapping, list)):
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
    merged = dict(row)
    for name, value in changes.items():
        declared = fields.get(name)
        present = merged.get(name)
        if declared is not None and declared.record is not None and isinstance(value, dict) and isinstance(present, dict):
            merged[name] = _merge(declared.record.fields, present, value)
        else:
            merged[name] = value
    return merged


def filled(declared: Field, value: Any, context: Context, now_s: float) -> Any:
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
                value = without_duplicates(value)
    elif declared.values is not None:
        if value == []:
            value = {}
        if isinstance(value, dict):
            value = {name: _filled_item(declared.values, item, context, now_s) for name, item in value.items()}
    elif declared.type in ("integer", "number") and isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INTEGER:
        return int(value)
    elif declared.type == "foreign" and isinstance(value, dict) and value.get("id") is not None:
        return {"id": value["id"]}
    return value


def _filled_item(declared: Field, item: Any, context: Context, now_s: float) -> Any:
    return None if item is None else filled(declared, item, context, now_s)


def _generated(declared: Field, value: Any, context: Context, now_s: float) -> Any:
    """A generated value; `UNSET` when the one given stays."""
    if declared.limits.timestamp:
        if declared.name == "updated_at" or (context == "insert" and (value is UNSET or value is None)):
            return int(now_s) if declared.type == "integer" else round(now_s, 3)
        return UNSET
    if context == "update" or not (value is UNSET or value is None):
        return UNSET
    if declared.limits.uuid:
        return new_uuid()
    if declared.type == "string":
        return new_key()
    return UNSET


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
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def _number(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    return None if _is_number(value) else "expected a number"


def _integer(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    is_whole = _is_number(value) and abs(value) <= MAX_INTEGER and (isinstance(value, int) or value.is_integer())
    return None if is_whole else "expected an integer"


def _boolean(schema: Schema, declared: Field, value: Any) -> Any:  # noqa: ARG001 - one signature for all types
    return None if isinstance(value, bool) else "expected a boolean"


def _array(schema: Schema, declared: Field, value: Any) -> Any:
    if not isinstance(value, list):
        return "expected an array" if declared.type == "array" else "expected a set"
    if declared.elements is None:
        return None
    # Kong keeps a null that stands in a list; nobody who reads the list expects it.
    errors = [REQUIRED if item is None else schema.violation(declared.elements, item) for item in value]
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
            error = REQUIRED if item is None else schema.violation(declared.values, item)
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
