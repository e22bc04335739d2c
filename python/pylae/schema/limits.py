# SPDX-License-Identifier: Apache-2.0
"""Which limit does a value of the right type break?

The order in which they are looked at is Kong's, and so are the texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from pylae.lua_text import lua_tostring
from pylae.schema.field import UNSET, Field, Limits, Pattern, Rule
from pylae.schema.rules import RULES, regex_problem

UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

MAX_INTEGER: Final = 2**53
"""Beyond it Lua, JavaScript and JSON's readers lose digits."""


def is_uuid(value: object) -> bool:
    """Whether a value looks like a UUID, and so is an id and never a name."""
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def broken_limit(declared: Field, limits: Limits, value: Any) -> str | None:
    """The text of the first limit that a value of the right type breaks."""
    for judge in LIMITS:
        error = judge(declared, limits, value)
        if error is not None:
            return error
    return None


def equality(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    """What it must be, or must not be."""
    if limits.eq is not UNSET and value != limits.eq:
        return f"value must be {lua_tostring(limits.eq)}"
    if limits.ne is not UNSET and value == limits.ne:
        return f"value must not be {lua_tostring(limits.ne)}"
    if limits.not_one_of is not None and value in limits.not_one_of:
        return f"must not be one of: {_listed(limits.not_one_of)}"
    if limits.one_of is not None and value not in limits.one_of:
        return f"expected one of: {_listed(limits.one_of)}"
    return None


def form(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    """What it must look like, or between which values it must lie."""
    if limits.gt is not None and not value > limits.gt:
        return f"value must be greater than {lua_tostring(limits.gt)}"
    if limits.timestamp and not value > 0:
        return "expected a valid timestamp"
    if limits.uuid and not is_uuid(value):
        return "expected a valid UUID"
    if limits.is_regex and regex_problem(value) is not None:
        return f"not a valid regex: {value}"
    if limits.between is not None and not limits.between[0] <= value <= limits.between[1]:
        return f"value should be between {int(limits.between[0])} and {int(limits.between[1])}"
    return None


def length(declared: Field, limits: Limits, value: Any) -> str | None:
    """How long it must be."""
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


def spelling(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    """What it must begin with and which patterns it must match."""
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


def contents(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    """What it must contain, and the rule of its own."""
    if limits.contains is not UNSET and limits.contains not in value:
        return f"expected to contain: {lua_tostring(limits.contains)}"
    if limits.rule is not None:
        return rule_of(limits.rule)(value)
    return None


def exclusion(declared: Field, limits: Limits, value: Any) -> str | None:  # noqa: ARG001 - one signature for all limits
    """Which of its items do not go together."""
    if limits.mutually_exclusive_subsets is None:
        return None
    present = [subset for subset in limits.mutually_exclusive_subsets if any(item in subset for item in value)]
    if len(present) < 2:
        return None
    listed = ", ".join("(" + ", ".join(f"'{item}'" for item in subset) + ")" for subset in present)
    return f"these sets are mutually exclusive: {listed}"


LIMITS: Final = (equality, form, length, spelling, contents, exclusion)
"""All of them, in order."""


def rule_of(rule: str | Rule) -> Rule:
    """The function of a rule that may be given by name."""
    return RULES[rule] if isinstance(rule, str) else rule


@cache
def searcher(regex: str) -> Callable[[str], re.Match[str] | None]:
    """Finds a regular expression in a text; a dollar at its end stands for the end of the text, as Lua has it."""
    if regex.endswith("$") and not regex.endswith("\\$"):
        regex = regex[:-1] + r"\Z"
    return re.compile(regex).search


def _found(pattern: Pattern, value: str) -> bool:
    return searcher(pattern.regex)(value) is not None


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(lua_tostring(value) for value in values)
