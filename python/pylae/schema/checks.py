# SPDX-License-Identifier: Apache-2.0
"""Which rules can be laid between the fields of one record?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pylae.lua_text import lua_value, quoted_list
from pylae.schema.field import UNSET, Field


class Fields(Protocol):
    """What a check needs from the schema it belongs to."""

    def violation(self, declared: Field, value: Any) -> Any:
        """The error of a value against a field, or `None`."""

    def declared(self, path: str) -> Field | None:
        """The field of a dotted path."""

    def holds(self, declared: Field) -> Callable[[Any], bool]:
        """Tells whether values hold to a declaration."""


def get_field(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; `UNSET` when it is not there."""
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return UNSET
        value = value[name]
    return value


Holds = Callable[[Mapping[str, Any]], bool]


def getter(path: str) -> Callable[[Mapping[str, Any]], Any]:
    """Finds the value at a dotted path as `get_field` does."""
    if "." not in path:
        return lambda row: row.get(path, UNSET)
    if path.count(".") == 1:
        outer, name = path.split(".")

        def find(row: Mapping[str, Any]) -> Any:
            inner = row.get(outer)
            return inner.get(name, UNSET) if isinstance(inner, Mapping) else UNSET

        return find
    return lambda row: get_field(row, path)


def set_error(errors: dict[str, Any], path: str, error: Any) -> None:
    """Puts an error at a dotted path."""
    *parents, last = path.split(".")
    for name in parents:
        inner = errors.get(name)
        if not isinstance(inner, dict):
            inner = errors[name] = {}
        errors = inner
    errors[last] = error


def is_nonempty(value: Any) -> bool:
    """Whether a value counts as given."""
    if value is UNSET or value is None:
        return False
    return bool(value) if isinstance(value, (list, str, dict, tuple, Mapping)) else True


@dataclass(frozen=True)
class Check:
    """A rule between fields."""

    kind: ClassVar[str]
    runs_when_all_missing: ClassVar[bool] = False

    def names(self) -> Sequence[str]:
        """The fields it looks at."""
        raise NotImplementedError

    def required_names(self) -> Sequence[str]:
        """Those without which it cannot be judged."""
        return ()

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:
        """The text of the breach, or `None`; may add errors of single fields."""
        raise NotImplementedError

    def compile(self, fields: Fields) -> Holds:
        """Tells whether rows without wrong fields keep the rule, and is as strict as `run`, or stricter."""

        def holds(row: Mapping[str, Any]) -> bool:
            errors: dict[str, Any] = {}
            self.run(row, fields, errors)
            return not errors

        return holds

    def run(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> None:
        """Judges a row unless its fields are missing or wrong already; adds to `errors`."""
        names = self.names()
        missing = [name for name in self.required_names() if get_field(row, name) is UNSET]
        if missing:
            for name in missing:
                set_error(errors, name, "field required for entity check")
            return
        if not self.runs_when_all_missing and all(get_field(row, name) is UNSET for name in names):
            return
        if any(get_field(errors, name) is not UNSET for name in names):
            return
        text = self.judge(row, fields, errors)
        if text is not None:
            errors.setdefault("@entity", []).append(text)


@dataclass(frozen=True)
class FieldsCheck(Check):
    """A rule over a list of fields alike."""

    fields: tuple[str, ...]
    runs_when_all_missing: ClassVar[bool] = True

    def names(self) -> Sequence[str]:
        """The fields it looks at."""
        return self.fields

    def compile(self, fields: Fields) -> Holds:
        """Tells whether rows without wrong fields keep the rule."""
        judge = self.judge
        return lambda row: judge(row, fields, {}) is None

    def given(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of the fields that are given."""
        values = (get_field(row, name) for name in self.fields)
        return [value for value in values if is_nonempty(value)]


class AtLeastOneOf(FieldsCheck):
    """One or more of the fields are given."""

    kind = "at_least_one_of"

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        if self.given(row):
            return None
        return f"at least one of these fields must be non-empty: {quoted_list(self.fields)}"


class OnlyOneOf(FieldsCheck):
    """Exactly one of the fields is given."""

    kind = "only_one_of"

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        if len(self.given(row)) == 1:
            return None
        return f"exactly one of these fields must be non-empty: {quoted_list(self.fields)}"


class MutuallyRequired(FieldsCheck):
    """All or none of the fields are given."""

    kind = "mutually_required"

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        if len(self.given(row)) in (0, len(self.fields)):
            return None
        return f"all or none of these fields must be set: {quoted_list(self.fields)}"


class MutuallyExclusive(FieldsCheck):
    """At most one of the fields is given."""

    kind = "mutually_exclusive"

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        if len(self.given(row)) <= 1:
            return None
        return f"only one or none of these fields must be set: {quoted_list(self.fields)}"


class Distinct(FieldsCheck):
    """No two of the fields have the same value."""

    kind = "distinct"

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        values = [lua_value(value) for value in self.given(row)]
        if len(set(values)) == len(values):
            return None
        return f"values of these fields must be distinct: {quoted_list(self.fields)}"


@dataclass(frozen=True)
class Conditional(Check):
    """If one field is so, another must be so."""

    kind: ClassVar[str] = "conditional"
    if_field: str
    if_match: Field
    then_field: str
    then_match: Field
    then_error: str | None = None

    def names(self) -> Sequence[str]:
        """The fields it looks at."""
        return (self.if_field, self.then_field)

    def required_names(self) -> Sequence[str]:
        """Those without which it cannot be judged."""
        return (self.if_field,)

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:
        """The text of the breach, or `None`."""
        if not _matches(self.if_match, self.if_field, row, fields):
            return None
        error = _mismatch(self.then_match, self.then_field, row, fields)
        if error is None:
            return None
        set_error(errors, self.then_field, error)
        return self.then_error or f"failed conditional validation given value of field '{self.if_field}'"

    def compile(self, fields: Fields) -> Holds:
        """Tells whether rows without wrong fields keep the rule."""
        find_if, find_then = getter(self.if_field), getter(self.then_field)
        if_holds = fields.holds(_typed(self.if_match, self.if_field, fields))
        then_holds = fields.holds(_typed(self.then_match, self.then_field, fields))

        def holds(row: Mapping[str, Any]) -> bool:
            value = find_if(row)
            if value is UNSET:
                return False
            if not if_holds(value):
                return True
            then_value = find_then(row)
            return then_holds(None if then_value is UNSET else then_value)

        return holds


@dataclass(frozen=True)
class ConditionalAtLeastOneOf(Check):
    """If one field is so, some of others must be given; else, if it is so, some of yet others."""

    kind: ClassVar[str] = "conditional_at_least_one_of"
    if_field: str
    if_match: Field
    then_at_least_one_of: tuple[str, ...]
    then_error: str | None = None
    else_match: Field | None = None
    else_then_at_least_one_of: tuple[str, ...] = ()
    else_then_error: str | None = None

    def names(self) -> Sequence[str]:
        """The fields it looks at."""
        return (self.if_field, *self.then_at_least_one_of, *self.else_then_at_least_one_of)

    def required_names(self) -> Sequence[str]:
        """Those without which it cannot be judged."""
        return (self.if_field,)

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        names, text = self.then_at_least_one_of, self.then_error
        if not _matches(self.if_match, self.if_field, row, fields):
            if self.else_match is None or not _matches(self.else_match, self.if_field, row, fields):
                return None
            names, text = self.else_then_at_least_one_of, self.else_then_error
        if any(is_nonempty(get_field(row, name)) for name in names):
            return None
        listed = quoted_list(names)
        if text is not None:
            return text.replace("%s", listed)
        return f"at least one of these fields must be non-empty: {listed}"

    def compile(self, fields: Fields) -> Holds:
        """Tells whether rows without wrong fields keep the rule."""
        find_if = getter(self.if_field)
        if_holds = fields.holds(_typed(self.if_match, self.if_field, fields))
        else_holds = None if self.else_match is None else fields.holds(_typed(self.else_match, self.if_field, fields))
        find_then = tuple(map(getter, self.then_at_least_one_of))
        find_else = tuple(map(getter, self.else_then_at_least_one_of))

        def holds(row: Mapping[str, Any]) -> bool:
            value = find_if(row)
            if value is UNSET:
                return False
            finders = find_then
            if not if_holds(value):
                if else_holds is None or not else_holds(value):
                    return True
                finders = find_else
            return any(is_nonempty(find(row)) for find in finders)

        return holds


@dataclass(frozen=True)
class RuleCheck(Check):
    """A rule of one's own over some fields."""

    kind: ClassVar[str] = "custom_entity_check"
    fields: tuple[str, ...]
    rule: Callable[[Mapping[str, Any]], str | None]

    def names(self) -> Sequence[str]:
        """The fields it looks at."""
        return self.fields

    def judge(self, row: Mapping[str, Any], fields: Fields, errors: dict[str, Any]) -> str | None:  # noqa: ARG002
        """The text of the breach, or `None`."""
        values = {name: get_field(row, name) for name in self.fields}
        return self.rule({name: None if value is UNSET else value for name, value in values.items()})

    def compile(self, fields: Fields) -> Holds:  # noqa: ARG002 - a rule of one's own needs no declarations
        """Tells whether rows without wrong fields keep the rule."""
        rule, names = self.rule, self.fields
        finders = tuple((name, getter(name)) for name in names)

        def holds(row: Mapping[str, Any]) -> bool:
            values: dict[str, Any] = {}
            is_any_there = False
            for name, find in finders:
                value = find(row)
                if value is UNSET:
                    values[name] = None
                else:
                    values[name] = value
                    is_any_there = True
            return not is_any_there or rule(values) is None

        return holds


def at_least_one_of(*fields: str) -> Check:
    """One or more of the fields must be given."""
    return AtLeastOneOf(fields)


def only_one_of(*fields: str) -> Check:
    """Exactly one of the fields must be given."""
    return OnlyOneOf(fields)


def mutually_required(*fields: str) -> Check:
    """All of the fields must be given, or none."""
    return MutuallyRequired(fields)


def mutually_exclusive(*fields: str) -> Check:
    """At most one of the fields may be given."""
    return MutuallyExclusive(fields)


def distinct(*fields: str) -> Check:
    """The fields that are given must differ."""
    return Distinct(fields)


def conditional(
    if_field: str,
    if_match: Mapping[str, Any],
    then_field: str,
    then_match: Mapping[str, Any],
    *,
    then_error: str | None = None,
) -> Check:
    """If one field keeps to some limits, another must keep to others.

    Args:
        if_field: dotted path of the field that decides.
        if_match: limits, such as `{"eq": "redis"}`.
        then_field: dotted path of the field that is judged.
        then_match: limits for it, or `{"required": True}`.
        then_error: the text told under `@entity`.
    """
    return Conditional(if_field, match(if_match), then_field, match(then_match), then_error)


def conditional_at_least_one_of(
    if_field: str,
    if_match: Mapping[str, Any],
    then_at_least_one_of: Sequence[str],
    *,
    then_error: str | None = None,
    else_match: Mapping[str, Any] | None = None,
    else_then_at_least_one_of: Sequence[str] = (),
    else_then_error: str | None = None,
) -> Check:
    """If one field keeps to some limits, some of the others must be given; `%s` in a text stands for their names."""
    return ConditionalAtLeastOneOf(
        if_field,
        match(if_match),
        tuple(then_at_least_one_of),
        then_error,
        None if else_match is None else match(else_match),
        tuple(else_then_at_least_one_of),
        else_then_error,
    )


def custom(*fields: str, rule: Callable[[Mapping[str, Any]], str | None]) -> Check:
    """Judges some fields, given as a dict, with a function that returns the text of the breach or `None`."""
    return RuleCheck(fields, rule)


def match(limits: Mapping[str, Any]) -> Field:
    """Limits as a field without a type; `elements` holds the limits of items."""
    from pylae.schema import kinds

    options = dict(limits)
    elements = options.pop("elements", None)
    made = kinds.string(**options)
    return made if elements is None else made.but(type="array", elements=match(elements))


_typed_limits: dict[tuple[int, int], tuple[Field, Field, Field]] = {}
"""Limits by their identity and that of the field they are for; both are kept, so that neither identity is reused."""


def _typed(limits: Field, path: str, fields: Fields) -> Field:
    """The limits with the type of the field that they are for."""
    declared = fields.declared(path)
    if declared is None:
        return limits
    known = _typed_limits.get((id(limits), id(declared)))
    if known is None:
        known = (limits, declared, _with_type(limits, declared))
        _typed_limits[id(limits), id(declared)] = known
    return known[2]


def _with_type(limits: Field, declared: Field) -> Field:
    elements = limits.elements
    if elements is not None and declared.elements is not None:
        elements = elements.but(type=declared.elements.type)
    len_min = declared.limits.len_min if limits.limits.len_min is None else limits.limits.len_min
    return limits.but(type=declared.type, elements=elements, record=None, references=None, len_min=len_min)


def _matches(limits: Field, path: str, row: Mapping[str, Any], fields: Fields) -> bool:
    return _mismatch(limits, path, row, fields) is None


def _mismatch(limits: Field, path: str, row: Mapping[str, Any], fields: Fields) -> Any:
    value = get_field(row, path)
    return fields.violation(_typed(limits, path, fields), None if value is UNSET else value)
