# SPDX-License-Identifier: Apache-2.0
"""Which kinds of value are there?

Every function takes limits by name (`between=(0, 255)`, `one_of=["a", "b"]`, `len_min=0`, `match=r"^[A-Z]+$"`,
`rule=function` ...) and, for what stands inside an array, set or map, the attributes of a field (`required=True`,
`referenceable=True` ...). A pattern is a regular expression, or a `Pattern` when `/schemas/...` has to show Lua's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylae.schema.field import _LIMIT_NAMES, Field, Limits, OnDelete, Type
from pylae.schema.field import Pattern as Pattern

if TYPE_CHECKING:
    from pylae.schema.record import Record


def string(**options: Any) -> Field:
    """Text; empty text is refused unless `len_min=0`."""
    return _make("string", options)


def integer(**options: Any) -> Field:
    """A whole number."""
    return _make("integer", options)


def number(**options: Any) -> Field:
    """A number, whole or not."""
    return _make("number", options)


def boolean(**options: Any) -> Field:
    """True or false."""
    return _make("boolean", options)


def array(of: Field, **options: Any) -> Field:
    """A list whose order counts."""
    return _make("array", options, elements=of)


def set_of(of: Field, **options: Any) -> Field:
    """A list without duplicates; those given are dropped."""
    return _make("set", options, elements=of)


def map_of(keys: Field, values: Field, **options: Any) -> Field:
    """An object with names of the caller's choice."""
    return _make("map", options, keys=keys, values=values)


def record(of: type[Record], **options: Any) -> Field:
    """An object with declared fields; always there with its defaults, unless `required=False`."""
    return _make("record", {"required": True, **options}, record=of)


def json(**options: Any) -> Field:
    """Any value that JSON can hold."""
    return _make("json", options)


def foreign(table: str, on_delete: OnDelete = "restrict", **options: Any) -> Field:
    """A reference to a row of another table, `{"id": ...}`.

    Args:
        table: the table referred to.
        on_delete: what happens when that row goes: `restrict` forbids it, `cascade` deletes this row too,
            `null` clears the reference.
        options: limits and attributes.
    """
    return _make("foreign", options, references=table, on_delete=on_delete)


def _make(type_name: Type, options: dict[str, Any], **rest: Any) -> Field:
    limits = {name: _patterns(name, options.pop(name)) for name in list(options) if name in _LIMIT_NAMES}
    return Field(type_name, Limits(**limits), **options, **rest)


def _patterns(name: str, value: Any) -> Any:
    """Lets a declaration write a regular expression where a `Pattern` is meant."""
    if name in ("match", "not_match"):
        return _pattern(value)
    if name in ("match_all", "match_none"):
        return [(_pattern(pattern), message) for pattern, message in value]
    if name == "match_any":
        patterns, message = value
        return ([_pattern(pattern) for pattern in patterns], message)
    return value


def _pattern(value: str | Pattern) -> Pattern:
    return Pattern(value, value) if isinstance(value, str) else value
