# SPDX-License-Identifier: Apache-2.0
"""Which JSON Schema (2020-12, as OpenAPI 3.1 takes it) does a declaration stand for?

There are three views of one declaration: what may be sent to make or replace a row (`input`), what may be sent to
change one (`patch`), and what is answered (`output`). A limit is written in only where JSON Schema says the same as
the validation or asks for less, so that what breaks the schema is refused by the gateway, and what is answered
keeps to it. Rules between fields that JSON Schema cannot say are shown under `x-entity-checks`.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from pylae.schema.checks import AtLeastOneOf, FieldsCheck, OnlyOneOf
from pylae.schema.field import UNSET, Field, Limits, Pattern
from pylae.schema.kong_json import checks_json
from pylae.schema.rules import RULES
from pylae.schema.shorthands import Shorthand
from pylae.schema.validate import Schema, schema_of

View = Literal["input", "patch", "output"]
Json = dict[str, Any]

VAULT_REFERENCE: Final = r"^\{vault:\/\/[^\x00]*[^\/]\}$"
_TYPES: Final = {"set": "array", "map": "object", "record": "object", "foreign": "object"}
_LENGTHS: Final = {"string": "Length", "array": "Items", "set": "Items", "map": "Properties", "record": "Properties"}
_HOST_CHARACTERS: Final = r"0-9A-Za-z._\-"
_NAME: Final = r"(?![0-9.]+$)(?:[0-9A-Za-z_\-]*[0-9A-Za-z_]\.)*[0-9A-Za-z_\-]*[0-9A-Za-z_]\.?"
_NAME_BEFORE_PORT: Final = _NAME.replace("+$)", "+(?::|$))")
_IPV4: Final = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_IPV6: Final = r"\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*\]?"
_PORT: Final = ":[0-9]+"

RULE_KEYWORDS: Final[Mapping[str, Json]] = {
    "certificate": {"pattern": "-----BEGIN ", "contentMediaType": "application/x-pem-file"},
    "key": {"pattern": "-----BEGIN ", "contentMediaType": "application/x-pem-file", "format": "password"},
    "cookie_name": {"pattern": r"""^[^\x00-\x1f\x7f-\uffff ()<>@,;:\\"\/?={}\[\]]+$"""},
    "header_name": {"pattern": "^[0-9A-Za-z_-]+$"},
    "host": {"pattern": f"^(?:{_NAME}|{_IPV4}|{_IPV6})$"},
    "host_with_optional_port": {"pattern": f"^(?:{_NAME_BEFORE_PORT}|{_IPV4}|{_IPV6})(?:{_PORT})?$"},
    "name": {"pattern": r"^[0-9A-Za-z.\-_~]+$"},
    "path": {"pattern": r"^\/(?:[A-Za-z0-9.\-_~\/:@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*$"},
    "route_host": {"pattern": rf"^[{_HOST_CHARACTERS}:\[\]*]+$"},
    "sni": {"pattern": f"^{_NAME}$"},
    "tag": {"pattern": r"^[^\x00-\x1f,\/\x7f]+$"},
    "target": {"pattern": f"^(?:{_NAME_BEFORE_PORT}|{_IPV4}|{_IPV6})(?:{_PORT})?$"},
    "upstream_name": {"pattern": f"^{_NAME}$"},
    "url": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9+.\-]*:\/\/."},
    "utf8_name": {"pattern": r"^[^\x00-,\/:-@\[-^`{-}\x7f]+$"},
    "wildcard_host": {"pattern": rf"^[{_HOST_CHARACTERS}*]+$"},
}
"""What JSON Schema can say of a named rule; the rest is in the rule's own words."""


def record_schema(schema: Schema, view: View, *, supplied: Iterable[str] = ()) -> Json:
    """An object with declared fields.

    Args:
        schema: of an entity, of one of its variants, or of another record.
        view: see the module.
        supplied: fields (dotted paths) that need not be in the body, since they are known from elsewhere.
    """
    elsewhere = frozenset(supplied)
    properties: Json = {}
    for name, declared in schema.fields.items():
        inner = _below(name, elsewhere) | _replaced_below(schema, name)
        properties[name] = field_schema(declared, view, supplied=inner)
    alternatives = [] if view != "input" else _alternatives(schema, elsewhere)
    for short in schema.shorthands:
        if short.name in schema.fields:
            continue
        if view != "output" or short.replaced_with is not None:
            properties[short.name] = _shorthand_schema(short, view)
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if view == "output":
        made["required"] = [name for name, declared in schema.fields.items() if not declared.transient and name != "ttl"]
    elif view == "input":
        required = [name for name in _required(schema) if name not in elsewhere and name not in _supplied_by_shorthand(schema)]
        if required:
            made["required"] = required
    if len(alternatives) == 1:
        made["anyOf"] = alternatives[0]
    elif alternatives:
        made["allOf"] = [{"anyOf": one} for one in alternatives]
    if schema.checks and view != "output":
        made["x-entity-checks"] = checks_json(schema.checks)
    return made


def field_schema(declared: Field, view: View, *, supplied: Iterable[str] = ()) -> Json:
    """The values of one field, with what they are for."""
    made = value_schema(declared, view, supplied=supplied)
    text = description(declared)
    if text:
        made["description"] = text
    if declared.unit is not None:
        made["x-unit"] = declared.unit
    if declared.deprecated is not None:
        made["deprecated"] = True
    if declared.auto and declared.limits.timestamp and declared.name == "updated_at" and view != "output":
        # Taken, so that a row can be sent as it was shown, and never looked at.
        made["readOnly"] = True
    # A secret by default is another one in every gateway.
    if view == "input" and declared.default is not UNSET and declared.default is not None and not declared.secret:
        made["default"] = declared.default
    return made


def description(declared: Field) -> str:
    """What a field is for, in sentences."""
    sentences = [declared.doc] if declared.doc else []
    if declared.unit is not None:
        sentences.append(f"In {declared.unit}.")
    if declared.auto:
        sentences.append("Generated unless given.")
    if declared.immutable:
        sentences.append("Cannot be changed.")
    if declared.secret:
        sentences.append("Secret.")
    if declared.referenceable:
        sentences.append("May be a reference to a vault.")
    if declared.deprecated is not None:
        sentences.append(f"Deprecated: gone in version {declared.deprecated} of the interface.")
    rule = _rule_text(declared) or (_rule_text(declared.elements) if declared.elements is not None else "")
    if rule:
        sentences.append(rule if declared.elements is None else f"Each: {rule[0].lower()}{rule[1:]}")
    return " ".join(sentences)


def value_schema(declared: Field, view: View, *, supplied: Iterable[str] = (), is_item: bool = False) -> Json:
    """The values of one field, null included where it may be; an item of a list or a map never is null."""
    limits = declared.limits
    if limits.eq is None:
        return {"type": "null"}
    if declared.type == "json":
        return {}
    made: Json = {"type": _TYPES.get(declared.type, declared.type)}
    match declared.type:
        case "array" | "set":
            if declared.elements is not None:
                made["items"] = value_schema(declared.elements, view, is_item=True)
            if view == "output" and declared.type == "set" and declared.elements and declared.elements.type == "string":
                made["uniqueItems"] = True
        case "map":
            if declared.keys is not None:
                made["propertyNames"] = value_schema(declared.keys, view, is_item=True)
            if declared.values is not None:
                made["additionalProperties"] = value_schema(declared.values, view, is_item=True)
        case "record" if declared.record is not None:
            made.update(record_schema(schema_of(declared.record), view, supplied=supplied))
        case "foreign":
            made.update(_foreign_schema(declared, view))
        case _:
            if declared.secret:
                made["format"] = "password"
    keywords = _keywords(declared, limits)
    if declared.referenceable and keywords.keys() - {"minLength"}:
        keywords = {"anyOf": [keywords, {"pattern": VAULT_REFERENCE}]}
    made.update(keywords)
    if not is_item and is_nullable(declared, view):
        _allow_null(made)
    return made


def is_nullable(declared: Field, view: View) -> bool:
    """Whether null may stand for the value."""
    if declared.limits.ne is None:
        return False
    if view != "input" or not declared.required:
        return not declared.required
    return declared.default is not UNSET or declared.record is not None or declared.auto


def ecma_pattern(regex: str) -> str | None:
    r"""A regular expression of Python's as ECMA-262 writes it in Unicode mode; `None` when it has no such form.

    >>> ecma_pattern(r"^[^\s*\&%]+\-[]a]$")
    '^[^\\s*&%]+-[\\]a]$'
    >>> ecma_pattern(r"(?i)^a") is None
    True
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of sets within sets, which are escaped below
            re.compile(regex)
    except re.error:
        return None
    written: list[str] = []
    position, in_class = 0, False
    while position < len(regex):
        rest = regex[position:]
        piece, length = _ecma_piece(rest, in_class=in_class)
        if piece is None:
            return None
        if rest[0] == "[" and not in_class:
            in_class = True
        elif rest[0] == "]" and in_class:
            in_class = False
        written.append(piece)
        position += length
    return "".join(written)


def _ecma_piece(rest: str, *, in_class: bool) -> tuple[str | None, int]:
    """The next piece of an expression in its other form, and how much it takes."""
    first = rest[0]
    if first == "\\":
        return _ecma_escape(rest, in_class=in_class)
    if in_class:
        return ("\\[", 1) if first == "[" else (first, 1)
    if first == "[":
        opened = re.match(r"\[\^?\]?", rest)
        assert opened
        return opened[0].replace("]", "\\]"), opened.end()
    if first == "(" and rest.startswith("(?"):
        named = re.match(r"\(\?P<(\w+)>", rest)
        if named:
            return f"(?<{named[1]}>", named.end()
        plain = re.match(r"\(\?(?::|=|!|<=|<!)", rest)
        return (plain[0], plain.end()) if plain else (None, 0)
    if first == "{" and re.match(r"\{\d+(,\d*)?\}", rest) is None:
        return "\\{", 1
    if first == "}":
        return "}", 1
    if re.match(r"[*+?}]\+", rest):
        return None, 0
    return first, 1


def _ecma_escape(rest: str, *, in_class: bool) -> tuple[str | None, int]:
    escaped = rest[1]
    if escaped in "AZ":
        return ("^" if escaped == "A" else "$"), 2
    if escaped in "dDwWsSbBnrtfv^$\\.*+?()[]{}|/0123456789" or (in_class and escaped == "-"):
        return rest[:2], 2
    if escaped == "x":
        return rest[:4], 4
    if escaped == "u":
        return rest[:6], 6
    return (None, 0) if escaped.isalpha() else (escaped, 2)


def _foreign_schema(declared: Field, view: View) -> Json:
    key: Json = {"type": "string", "format": "uuid"}
    if view == "output":
        return {"properties": {"id": key}, "required": ["id"], "additionalProperties": False, "x-references": declared.references}
    return {"properties": {"id": {**key, "type": ["string", "null"]}}, "minProperties": 1, "x-references": declared.references}


def _shorthand_schema(short: Shorthand, view: View) -> Json:
    kind = short.kind
    # What stands under the old name is a copy of what stands under the new one, which may be null.
    made = field_schema(kind.but(required=False) if view == "output" or kind.default is not UNSET else kind, view)
    if short.replaced_with is not None:
        made["deprecated"] = True
        made["description"] = f"Use `{short.replaced_with}`."
    else:
        made["writeOnly"] = True
        if short.doc:
            made["description"] = short.doc
    return made


def _keywords(declared: Field, limits: Limits) -> Json:
    """The limits of a value of the right type."""
    found: Json = {}
    every: list[Json] = []
    kind = {"type": _TYPES.get(declared.type, declared.type)}
    if limits.eq is not UNSET:
        found["const"] = limits.eq
    if limits.ne is not UNSET and limits.ne is not None:
        every.append({"not": {"const": limits.ne}})
    if limits.one_of is not None:
        found |= {"enum": list(limits.one_of)} if limits.one_of else {"not": kind}
    if limits.not_one_of is not None:
        every.append({"not": {"enum": list(limits.not_one_of)}})
    if limits.timestamp:
        found["exclusiveMinimum"] = 0
    if limits.gt is not None:
        found["exclusiveMinimum"] = limits.gt
    if limits.between is not None:
        found["minimum"], found["maximum"] = limits.between
    if limits.uuid:
        found["format"] = "uuid"
    if limits.is_regex:
        found["format"] = "regex"
    found.update(_lengths(declared, limits))
    every += _spellings(declared, limits)
    if limits.contains is not UNSET:
        found["contains"] = {"const": limits.contains}
    if limits.mutually_exclusive_subsets is not None:
        every += _exclusions(declared, limits.mutually_exclusive_subsets)
    for one in every:
        if len(one) == 1 and not one.keys() & found.keys():
            found.update(one)
        else:
            found.setdefault("allOf", []).append(one)
    return found


def _lengths(declared: Field, limits: Limits) -> Json:
    of_what = _LENGTHS.get(declared.type)
    if of_what is None:
        return {}
    shortest, longest = limits.len_min, limits.len_max
    if limits.len_eq is not None:
        shortest = longest = limits.len_eq
    if shortest is None and declared.type == "string" and limits.one_of is None and not limits.uuid:
        shortest = 1
    if declared.type == "string" and shortest is not None and shortest > 1:
        # The validation counts bytes, of which a character has up to four.
        shortest = -(-shortest // 4)
    if declared.type == "set" and shortest is not None:
        # Counted before duplicates are dropped.
        shortest = min(shortest, 1)
    found = {} if not shortest else {f"min{of_what}": shortest}
    return found if longest is None else {**found, f"max{of_what}": longest}


def _spellings(declared: Field, limits: Limits) -> list[Json]:
    found: list[Json] = []
    if limits.starts_with is not None:
        found.append({"pattern": "^" + re.sub(r"[\\^$.*+?()\[\]{}|/]", r"\\\g<0>", limits.starts_with)})
    refused = [pattern for pattern, _ in limits.match_none or ()]
    for pattern in (*refused, *([limits.not_match] if limits.not_match is not None else [])):
        found += [{"not": {"type": "string", **one}} for one in _patterns([pattern])]
    wanted = [pattern for pattern, _ in limits.match_all or ()]
    found += _patterns([*wanted, *([limits.match] if limits.match is not None else [])])
    if limits.match_any is not None:
        some = _patterns(limits.match_any[0])
        if len(some) == len(limits.match_any[0]):
            found.append({"anyOf": some})
    if isinstance(limits.rule, str) and declared.type == "string":
        keywords = dict(RULE_KEYWORDS.get(limits.rule, {}))
        if "pattern" in keywords:
            found.append({"pattern": keywords.pop("pattern")})
        found += [{name: value} for name, value in keywords.items()]
    return found


def _patterns(patterns: Iterable[Pattern]) -> list[Json]:
    written = (ecma_pattern(pattern.regex) for pattern in patterns)
    return [{"pattern": one} for one in written if one is not None]


def _exclusions(declared: Field, subsets: Sequence[Sequence[str]]) -> list[Json]:
    known = None if declared.elements is None else declared.elements.limits.one_of
    if known is not None and set(known) <= {item for subset in subsets for item in subset}:
        return [{"anyOf": [{"items": {"enum": list(subset)}} for subset in subsets]}]
    return [
        {"not": {"type": "array", "allOf": [{"contains": {"enum": list(subset)}}, {"contains": {"enum": list(other)}}]}}
        for position, subset in enumerate(subsets)
        for other in subsets[position + 1 :]
    ]


def _allow_null(made: Json) -> None:
    made["type"] = [made["type"], "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    if "const" in made:
        made["enum"] = [made.pop("const"), None]


def _rule_text(declared: Field) -> str:
    """What a named rule asks for."""
    rule = declared.limits.rule
    function = RULES.get(rule) if isinstance(rule, str) else None
    return "" if function is None else inspect.cleandoc(function.__doc__ or "").partition("\n")[0]


def _required(schema: Schema) -> list[str]:
    """The fields without which no row can be made."""
    return [name for name, declared in schema.fields.items() if declared.required and not is_nullable(declared, "input")]


def _below(name: str, paths: Iterable[str]) -> frozenset[str]:
    return frozenset(path.removeprefix(f"{name}.") for path in paths if path.startswith(f"{name}."))


def _replaced_below(schema: Schema, name: str) -> frozenset[str]:
    """The fields within a field that old names of the record around it may stand for."""
    return _below(name, [short.replaced_with for short in schema.shorthands if short.replaced_with is not None])


def _writes(short: Shorthand) -> frozenset[str]:
    """The fields that a shorthand sets; told from what it makes of null."""
    if short.replaced_with is not None:
        return frozenset({short.replaced_with})
    return frozenset() if short.expand is None else frozenset(short.expand(None, {}))


def _supplied_by_shorthand(schema: Schema) -> frozenset[str]:
    return frozenset(name for short in schema.shorthands if short.name not in schema.fields for name in _writes(short))


def _alternatives(schema: Schema, elsewhere: frozenset[str]) -> list[list[Json]]:
    """Lists of fields of which one must be given: for want of a shorthand, or by a rule between fields."""
    found: list[list[Json]] = []
    for name in _required(schema):
        shorts = [short.name for short in schema.shorthands if name in _writes(short) and short.name not in schema.fields]
        if shorts and name not in elsewhere:
            found.append([{"required": [one]} for one in (name, *shorts)])
    for check in schema.checks:
        if isinstance(check, (AtLeastOneOf, OnlyOneOf)) and not _may_be_met(schema, check, elsewhere):
            found.append([_given(name.split(".")) for name in check.fields])
    return found


def _may_be_met(schema: Schema, check: FieldsCheck, elsewhere: frozenset[str]) -> bool:
    """Whether the fields of a rule may have values that are not in the body under their own names."""
    for path in check.fields:
        declared = schema.declared(path)
        is_given_only = declared is not None and declared.default is UNSET and not declared.auto and declared.record is None
        parent, _, inner = path.partition(".")
        around = schema.fields[parent].record if inner and parent in schema.fields else None
        shorthands = [*schema.shorthands, *(() if around is None else schema_of(around).shorthands)]
        if not is_given_only or path in elsewhere or any({path, inner} & _writes(short) for short in shorthands):
            return True
    return False


def _given(path: Sequence[str]) -> Json:
    name, *inner = path
    made: Json = {"required": [name]}
    return made if not inner else {**made, "properties": {name: _given(inner)}}
