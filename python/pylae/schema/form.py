# SPDX-License-Identifier: Apache-2.0
"""Which values did a form mean, whose values are all text?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pylae.schema.field import Field

if TYPE_CHECKING:
    from pylae.schema.validate import Schema

_NUMBER: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*\Z")


def process_form(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the types of their fields; what does not convert stays text, for the validation to refuse."""
    variant = schema.variant_for(values) or schema
    return _fields({**variant.fields, **{short.name: short.kind for short in variant.shorthands}}, values)


def _fields(fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if name not in fields else convert(fields[name], value) for name, value in values.items()}


def convert(declared: Field, value: Any) -> Any:
    """A value of a form in the type of its field; the empty text is null."""
    if value == "":
        return None
    match declared.type:
        case "integer" | "number":
            return _number(value)
        case "boolean":
            return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        case "array" | "set":
            return _items(declared, value)
        case "map" if isinstance(value, Mapping) and declared.values is not None:
            return {name: convert(declared.values, item) for name, item in value.items()}
        case "record" if isinstance(value, Mapping) and declared.record is not None:
            from pylae.schema.validate import schema_of

            return process_form(schema_of(declared.record), value)
        case _:
            return value


def _items(declared: Field, value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(str(name).isdigit() for name in value):
            return value
        value = [value[name] for name in sorted(value, key=int)]
    elif not isinstance(value, list):
        value = [value]
    if declared.elements is None:
        return value
    return [convert(declared.elements, item) for item in value]


def _number(value: Any) -> Any:
    if not isinstance(value, str) or _NUMBER.match(value) is None:
        return value
    number = float(value)
    if number.is_integer():
        return int(value) if value.strip().lstrip("+-").isdigit() else int(number)
    return number
