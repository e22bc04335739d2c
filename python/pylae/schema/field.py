# SPDX-License-Identifier: Apache-2.0
"""What may a value be, and how does a declaration say so?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from pylae.schema.record import Record

Type = Literal["string", "integer", "number", "boolean", "array", "set", "map", "record", "foreign", "json"]
OnDelete = Literal["restrict", "cascade", "null"]
Rule = Callable[[Any], str | None]
"""Takes a value of the right type and says what is wrong with it; `None` when nothing is."""


class Unset:
    """The type of `UNSET`, which is not a value: `None` means null."""

    _only: Unset | None = None

    def __new__(cls) -> Unset:  # noqa: D102 - the class says that there is one
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()
RecordClass: TypeAlias = "type[Record]"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern in both languages: Lua's for those who read `/schemas/...`, a regular expression for us."""

    lua: str
    regex: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value must hold to besides its type; checked in the order of Kong, which is not this order."""

    eq: Any = UNSET
    ne: Any = UNSET
    not_one_of: Sequence[Any] | None = None
    one_of: Sequence[Any] | None = None
    gt: float | None = None
    timestamp: bool = False
    uuid: bool = False
    is_regex: bool = False
    between: tuple[float, float] | None = None
    len_eq: int | None = None
    len_min: int | None = None
    len_max: int | None = None
    starts_with: str | None = None
    not_match: Pattern | None = None
    match_none: Sequence[tuple[Pattern, str]] | None = None
    match: Pattern | None = None
    match_all: Sequence[tuple[Pattern, str]] | None = None
    match_any: tuple[Sequence[Pattern], str] | None = None
    contains: Any = UNSET
    rule: str | Rule | None = None
    mutually_exclusive_subsets: Sequence[Sequence[str]] | None = None
    error: str | None = None
    """Replaces the text of whichever limit is broken."""


@dataclass(slots=True, eq=False)
class Field:
    """One declared value: its kind, its limits, what it is for."""

    type: Type
    limits: Limits
    name: str = ""
    required: bool = False
    default: Any = UNSET
    auto: bool = False
    unique: bool = False
    unique_across_ws: bool = False
    """Shown to clients only: there is one workspace."""
    immutable: bool = False
    transient: bool = False
    secret: bool = False
    encrypted: bool = True
    """Whether `/schemas/...` marks a secret as encrypted; not where Kong does not."""
    referenceable: bool = False
    unit: str | None = None
    deprecated: str | None = None
    """The version that will do without it."""
    doc: str = ""
    elements: Field | None = None
    keys: Field | None = None
    values: Field | None = None
    record: RecordClass | None = None
    references: str | None = None
    on_delete: OnDelete = "restrict"
    abstract: bool = False
    """A record whose fields the type of its row brings."""
    json_schema: Mapping[str, Any] | None = None
    """What is known of a `json` value; shown to clients only."""

    def __set_name__(self, owner: RecordClass, name: str) -> None:
        self.name = name

    @property
    def is_marked_encrypted(self) -> bool:
        """Whether `/schemas/...` calls it encrypted."""
        return self.secret and self.encrypted

    def but(self, **changes: Any) -> Field:
        """A copy that differs in attributes of the field or in limits."""
        limits = {name: changes.pop(name) for name in list(changes) if name in _LIMIT_NAMES}
        return replace(self, limits=replace(self.limits, **limits), **changes)


_LIMIT_NAMES: Final = frozenset(Limits.__dataclass_fields__)


def field(
    kind: Field,
    *,
    required: bool | None = None,
    default: Any = UNSET,
    unit: str | None = None,
    secret: bool | None = None,
    encrypted: bool | None = None,
    referenceable: bool | None = None,
    unique: bool | None = None,
    auto: bool | None = None,
    immutable: bool | None = None,
    transient: bool | None = None,
    deprecated: str | None = None,
    doc: str = "",
) -> Any:
    """Declares an attribute of a `Record`; the annotation beside it says the Python type.

    Args:
        kind: one of `pylae.schema.kinds`, with its limits.
        required: null is refused; true for records unless said otherwise.
        default: taken when nothing is given on insert.
        unit: what a bare number counts, such as `milliseconds`.
        secret: never shown in logs and in the reference of values.
        encrypted: False for a secret that Kong does not call encrypted in `/schemas/...`.
        referenceable: may be a reference to a vault.
        unique: no two rows share the value.
        auto: filled in on insert.
        immutable: may not change once stored.
        transient: accepted and shown, but not a column.
        deprecated: the version of the interface that drops it.
        doc: one sentence that says the effect.
    """
    given: dict[str, Any] = {
        "required": required,
        "unit": unit,
        "secret": secret,
        "encrypted": encrypted,
        "referenceable": referenceable,
        "unique": unique,
        "auto": auto,
        "immutable": immutable,
        "transient": transient,
        "deprecated": deprecated,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if default is not UNSET:
        changes["default"] = default
    return replace(kind, doc=doc, **changes)
