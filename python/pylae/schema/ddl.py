# SPDX-License-Identifier: Apache-2.0
"""Which table holds an entity?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pylae.schema.field import Field, OnDelete
from pylae.schema.record import Entity, default_of
from pylae.schema.validate import schema_of

ColumnType = Literal["uuid", "text", "integer", "number", "boolean", "json"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a field, or the id that a foreign field holds."""

    name: str
    """`service_id` for the foreign field `service`."""
    field: str
    type: ColumnType
    is_primary_key: bool = False
    is_unique: bool = False
    is_required: bool = False
    references: str | None = None
    on_delete: OnDelete = "restrict"
    default: Any = None
    """What rows have that were stored before there was the column."""


@dataclass(frozen=True, slots=True)
class Table:
    """An entity as columns."""

    name: str
    columns: tuple[Column, ...]
    unique_together: tuple[str, ...] | None
    """Columns of the cache key, when it is more than one field."""
    has_ttl: bool

    def column(self, field: str) -> Column:
        """The column of a field.

        Raises:
            KeyError: it has none.
        """
        for column in self.columns:
            if column.field == field:
                return column
        raise KeyError(field)


def table_of(entity: type[Entity]) -> Table:
    """The table of an entity; `ttl` and transient fields are not columns."""
    columns = tuple(
        _column(entity, declared)
        for declared in schema_of(entity).fields.values()
        if not declared.transient and not (entity.ttl and declared.name == "ttl")
    )
    together = entity.cache_key if entity.cache_key is not None and len(entity.cache_key) > 1 else None
    names = {column.field: column.name for column in columns}
    unique_together = None if together is None else tuple(names[name] for name in together)
    return Table(entity.table, columns, unique_together, entity.ttl)


def _column(entity: type[Entity], declared: Field) -> Column:
    is_foreign = declared.type == "foreign"
    is_primary_key = declared.name in entity.primary_key
    return Column(
        name=f"{declared.name}_id" if is_foreign else declared.name,
        field=declared.name,
        type=_type(declared),
        is_primary_key=is_primary_key,
        is_unique=declared.unique,
        is_required=is_primary_key or declared.required,
        references=declared.references,
        on_delete=declared.on_delete,
        default=default_of(declared),
    )


def _type(declared: Field) -> ColumnType:
    match declared.type:
        case "foreign":
            return "uuid"
        case "string":
            return "uuid" if declared.limits.uuid else "text"
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "boolean":
            return "boolean"
        case _:
            return "json"
