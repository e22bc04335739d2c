# SPDX-License-Identifier: Apache-2.0
"""Which tables does the database have, and who refers to whom?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pylae.database.changes import Invalidation, Row
from pylae.schema import Entity
from pylae.schema.ddl import Column
from pylae.schema.ddl import table_of as columns_of
from pylae.schema.field import OnDelete

PRIMARY_KEY: Final = "id"


@dataclass(frozen=True, slots=True)
class Table:
    """One entity as a table.

    Attributes:
        endpoint_key: unique field that may stand in a path instead of the id.
        cache_key: fields that are unique together; empty when single fields say it all.
        has_ttl: whether rows expire.
    """

    name: str
    columns: tuple[Column, ...]
    endpoint_key: str | None
    cache_key: tuple[str, ...]
    has_ttl: bool

    @property
    def foreign(self) -> tuple[Column, ...]:
        """Columns that refer to other tables."""
        return tuple(column for column in self.columns if column.references is not None)

    @property
    def unique(self) -> tuple[str, ...]:
        """Fields each of whose values belongs to one row, the id first."""
        return (
            PRIMARY_KEY,
            *(column.field for column in self.columns if column.is_unique and column.field != PRIMARY_KEY),
        )

    def key_within(self, parent_field: str | None) -> str | None:
        """The field by which a path names a row: the endpoint key; below a parent, else, what is unique there."""
        if self.endpoint_key is not None or parent_field is None:
            return self.endpoint_key
        rest = [field for field in self.cache_key if field != parent_field]
        return rest[0] if len(rest) == 1 and parent_field in self.cache_key else None

    @property
    def owners(self) -> tuple[str, ...]:
        """Foreign fields by which rows are found together, such as the groups of a Consumer: those of the cache key."""
        return tuple(column.field for column in self.foreign if column.field in self.cache_key)

    def invalidations(self, *rows: Row | None) -> tuple[Invalidation, ...]:
        """Every value by which a row could be found, alone or with others, before or after it was written."""
        found: dict[Invalidation, None] = {}
        for row in rows:
            if row is not None:
                for field in (*self.unique, *self.owners):
                    value = row.get(field)
                    if value is not None:
                        found[self.name, field, value["id"] if isinstance(value, dict) else value] = None
        return tuple(found)

    def column(self, field: str) -> Column | None:
        """The column of a field."""
        return next((column for column in self.columns if column.field == field), None)


def table_of(entity: type[Entity]) -> Table:
    """The table of a declaration."""
    table = columns_of(entity)
    # A key of one field is that field's own uniqueness.
    cache_key = () if table.unique_together is None else entity.cache_key or ()
    return Table(table.name, table.columns, entity.endpoint_key, cache_key, table.has_ttl)


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign field, seen from the table it refers to."""

    table: str
    field: str
    on_delete: OnDelete


class Tables(Mapping[str, Table]):
    """All tables of a database and the references between them."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {table.name: table for table in tables}
        self._references: dict[str, list[Reference]] = {name: [] for name in self._tables}
        for table in self._tables.values():
            for column in table.foreign:
                if column.references in self._references:
                    reference = Reference(table.name, column.field, column.on_delete)
                    self._references[column.references].append(reference)
        for references in self._references.values():
            references.sort(key=lambda reference: (reference.on_delete != "restrict", reference.table))

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def references_to(self, table: str) -> list[Reference]:
        """Who refers to a table, those that forbid a deletion first."""
        return self._references[table]
