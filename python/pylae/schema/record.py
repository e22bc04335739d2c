# SPDX-License-Identifier: Apache-2.0
"""How is a thing with fields declared?"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pylae.schema.copying import copied
from pylae.schema.field import UNSET, Field

if TYPE_CHECKING:
    from pylae.schema.checks import Check
    from pylae.schema.field import Rule
    from pylae.schema.shorthands import Shorthand


class Record:
    """Base of everything that has declared fields: entities, parts of entities, configurations of plugins.

    The class is the declaration; an instance, made by `load`, holds the values under the same names.
    """

    fields: ClassVar[dict[str, Field]] = {}
    """The declared fields by name, in the order of their declaration; filled in by the class itself."""
    checks: ClassVar[Sequence[Check]] = ()
    """Rules between fields of this record; a broken one is told under `@entity` of this record."""
    plugin_checks: ClassVar[Sequence[Check]] = ()
    """On a plugin's `Config`: rules over the whole plugin row, which names its fields `config.minute`."""
    shorthands: ClassVar[Sequence[Shorthand]] = ()
    """Other names under which values may be given."""
    rule: ClassVar[Rule | None] = None
    """Judges the whole record after its fields and checks; takes it as a dict."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        cls.fields = {**cls.fields, **own}
        cls._nested = tuple((name, declared) for name, declared in cls.fields.items() if _holds_record(declared))

    _nested: ClassVar[tuple[tuple[str, Field], ...]] = ()

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Self:
        """An instance of validated values: attributes for all fields, defaults for those missing, nested records too."""
        loaded = cls.__new__(cls)
        attributes = loaded.__dict__
        for name, declared in cls.fields.items():
            value = values.get(name, UNSET)
            attributes[name] = default_of(declared) if value is UNSET else value
        for name, declared in cls._nested:
            attributes[name] = _load_value(declared, attributes[name])
        return loaded

    def __repr__(self) -> str:
        shown = (
            f"{name}={'******' if declared.secret else repr(self.__dict__.get(name))}" for name, declared in self.fields.items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Entity(Record):
    """A thing that is stored: a table, a set of Admin endpoints, part of a snapshot."""

    table: ClassVar[str]
    primary_key: ClassVar[tuple[str, ...]] = ("id",)
    endpoint_key: ClassVar[str | None] = None
    """A unique field that names a row in a URL, beside its id."""
    cache_key: ClassVar[tuple[str, ...] | None] = None
    """Fields that are unique together."""
    is_stored: ClassVar[bool] = True
    """Whether there is a table of its rows; else it is a view, or a thing with a place of its own."""
    ttl: ClassVar[bool] = False
    """Rows may be given seconds to live, in a field `ttl` that need not be declared."""
    workspaceable: ClassVar[bool] = True
    admin_path_name: ClassVar[str | None] = None
    """The collection's path; the table's name when unset."""
    admin_nested_name: ClassVar[str | None] = None
    """The collection's path below a parent; the collection's own when unset."""
    admin_disabled: ClassVar[bool] = False
    """The collection answers 404 at the top level and is reached below its parent only."""
    admin_generated: ClassVar[bool] = True
    """Whether its endpoints follow from the declaration; else it has none, or some of its own."""
    in_declarative_export: ClassVar[bool] = True
    """Whether a declarative configuration holds its rows."""
    subschema_key: ClassVar[str | None] = None
    """A field whose value (its first item, for a list) chooses more rules; see `variant`."""
    subschema_error: ClassVar[str] = "unknown type: %s"

    @classmethod
    def variant(cls, key: str) -> Variant | None:
        """What differs for rows whose `subschema_key` field has this value; `None` refuses the value."""
        raise NotImplementedError(key)

    @classmethod
    def variant_keys(cls) -> Sequence[str]:
        """The values of `subschema_key` by which rows are told apart; none where it is no plain text."""
        return ()

    @classmethod
    def complete(cls, row: dict[str, Any]) -> None:
        """Puts a validated row into the form in which it is stored."""

    @classmethod
    def transform(cls, row: dict[str, Any], given: Container[str] | None = None) -> None:
        """Replaces what a client gave and nobody keeps, such as a password.

        Args:
            row: validated and whole; changed in place.
            given: the fields that this write gives, the others being as they were stored; `None` for all.
        """

    @classmethod
    def path_name(cls) -> str:
        """The first part of the collection's path."""
        return cls.admin_path_name or cls.table

    @classmethod
    def nested_name(cls) -> str:
        """The collection's name in the path of its parent."""
        return cls.admin_nested_name or cls.path_name()


class Variant:
    """What differs in a row of a certain type: fields declared otherwise, and more checks."""

    def __init__(self, fields: Mapping[str, Field], checks: Sequence[Check] = ()) -> None:
        self.fields = dict(fields)
        self.checks = tuple(checks)
        for name, declared in self.fields.items():
            declared.name = name


def default_of(declared: Field) -> Any:
    """The value of a field of which nothing was said: its default, a record's own defaults, or null."""
    if declared.default is not UNSET:
        return copied(declared.default)
    if declared.record is not None and declared.required:
        return {name: default_of(inner) for name, inner in declared.record.fields.items()}
    return None


def _holds_record(declared: Field) -> bool:
    if declared.record is not None:
        return True
    return any(part is not None and _holds_record(part) for part in (declared.elements, declared.values))


def _load_value(declared: Field, value: Any) -> Any:
    if value is None:
        return None
    if declared.record is not None:
        return declared.record.load(value)
    if declared.elements is not None and isinstance(value, list):
        return [_load_value(declared.elements, item) for item in value]
    if declared.values is not None and isinstance(value, Mapping):
        return {name: _load_value(declared.values, item) for name, item in value.items()}
    return value
