# SPDX-License-Identifier: Apache-2.0
"""What does a write mean?

The same for every database: defaults and validation from the declaration, parents named by their key, who may be
deleted and who goes along, and the list of what changed, which is committed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pylae.database.ca_certificates import check_ca_certificate_is_unused
from pylae.database.changes import Change, Operation, Row
from pylae.database.companions import COMPANIONS, Companion
from pylae.database.paging import DEFAULT_PAGE_SIZE, Page, id_before, key_before, offset_after
from pylae.database.strategies import Reader, TagFilter, Transaction
from pylae.database.table import Tables, table_of
from pylae.entities.targets import normalise_target
from pylae.errors import ForeignKeysUnresolved, ForeignKeyViolation, InvalidUnique, SchemaViolation
from pylae.schema import Entity, Schema, schema_of
from pylae.schema.validate import is_uuid

TIMES: Final = ("created_at", "updated_at")
"""What differs between two rows that say the same."""
MAX_OWNED: Final = 10_000
"""Rows that are looked up together."""
_ALL_CHILDREN: Final = 10_000_000

Check = Callable[[Reader, Row], None]
"""Refuses a row for what other rows say, or for what its schema cannot."""


class Catalogue:
    """Every entity this gateway knows, with its table, its schema and what is checked on each write.

    Args:
        entities: declarations by table.
        checks: more checks by table.
    """

    def __init__(self, entities: Mapping[str, type[Entity]], checks: Mapping[str, Check] | None = None) -> None:
        self.entities = dict(entities)
        self.tables = Tables(table_of(entity) for entity in entities.values() if entity.is_stored)
        self.checks = dict(checks or {})
        self.companions: dict[str, Companion] = {
            table: companion for table, companion in COMPANIONS.items() if table in self.tables and companion.table in self.tables
        }

    def __repr__(self) -> str:
        return f"<catalogue {' '.join(self.entities)}>"

    def schema(self, table: str) -> Schema:
        """How rows of a table are validated."""
        return schema_of(self.entities[table])


class ReadDao:
    """Entities as one consistent look at the database finds them."""

    def __init__(self, reader: Reader, catalogue: Catalogue) -> None:
        self.reader = reader
        self._catalogue = catalogue

    def get(self, table: str, id_: str) -> Row | None:
        """The row of an id."""
        return self._accompanied(table, self.reader.get(table, id_))

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """The row that has these values; of a foreign field, the id it refers to."""
        return self._accompanied(table, self.reader.find(table, values))

    def _accompanied(self, table: str, row: Row | None) -> Row | None:
        """The row with what rows of another table add to it."""
        companion = self._catalogue.companions.get(table)
        if companion is not None and row is not None:
            row[companion.field] = companion.value(self.reader, row["id"])
        return row

    def select(self, table: str, key: str, within: Mapping[str, str] | None = None) -> Row | None:
        """The row that a path names: by its id, or by its endpoint key; `within` names its parent's id by field."""
        named_by = self._catalogue.tables[table].key_within(next(iter(within)) if within else None)
        field = "id" if is_uuid(key) or named_by is None else named_by
        if field == "id":
            key = key.lower()
        if table == "targets" and field != "id":
            key = _target(key)
        return self.find(table, {field: key, **(within or {})})

    def select_unique(self, table: str, field: str, value: Any) -> Row | None:
        """The row by one of its unique fields.

        Raises:
            InvalidUnique: the field is not one.
        """
        declared = self._catalogue.tables.get(table)
        if declared is None or field not in declared.unique:
            raise InvalidUnique(field, f"`{table}` has no unique field `{field}`")
        if not isinstance(value, (str, int, float)):
            raise InvalidUnique(field, "expected a string or a number")
        return self.find(table, {field: value})

    def select_owned(self, table: str, field: str, owner: str) -> list[Row]:
        """All rows that a row of another table owns, in the order of their ids; at most `MAX_OWNED`.

        Raises:
            InvalidUnique: no rows are found together by this field.
        """
        declared = self._catalogue.tables.get(table)
        if declared is None or field not in declared.owners:
            raise InvalidUnique(field, f"`{table}` is not looked up by `{field}`")
        if not isinstance(owner, str):
            raise InvalidUnique(field, "expected an id")
        return self.reader.page(table, limit=MAX_OWNED, after=None, where={field: owner}, tags=None)

    def each(self, table: str) -> Iterator[Row]:
        """Every row, as it is stored."""
        return self.reader.each(table)

    def sequence(self) -> int:
        """Of the newest change."""
        return self.reader.sequence()

    def changes_after(self, sequence: int) -> list[Change]:
        """What the change log still holds after a sequence, oldest first, rows left out."""
        return self.reader.changes_after(sequence)

    def page(
        self,
        table: str,
        size: int = DEFAULT_PAGE_SIZE,
        offset: str | None = None,
        *,
        where: dict[str, Any] | None = None,
        tags: TagFilter | None = None,
    ) -> Page:
        """Some rows in the order of their ids; tags say nothing of a table that has none.

        Raises:
            InvalidOffset: no page of ours had this offset.
        """
        if self._catalogue.tables[table].column("tags") is None:
            tags = None
        after = None if offset is None else id_before(offset)
        rows = self.reader.page(table, limit=size + 1, after=after, where=where, tags=tags)
        has_more = len(rows) > size
        del rows[size:]
        if table in self._catalogue.companions:
            for row in rows:
                self._accompanied(table, row)
        return Page(rows, offset_after(rows[-1]["id"]) if has_more else None)

    def tagged(self, tag: str | None = None, size: int = DEFAULT_PAGE_SIZE, offset: str | None = None) -> Page:
        """Some tags of all tables' rows, or the rows that have a certain one.

        Raises:
            InvalidOffset: no page of ours had this offset.
        """
        after = None
        if offset is not None:
            after_id, after_table, after_tag = key_before(offset, 3)
            after = after_id, after_table, after_tag
        keys = self.reader.tagged(tag, limit=size + 1, after=after)
        rows = [{"entity_id": id_, "entity_name": table, "tag": word} for id_, table, word in keys[:size]]
        return Page(rows, offset_after(*keys[size - 1]) if len(keys) > size else None)


class Dao(ReadDao):
    """Entities, in a transaction that may change them.

    Attributes:
        changes: what was changed so far, to be logged before the commit.
    """

    def __init__(self, transaction: Transaction, catalogue: Catalogue) -> None:
        super().__init__(transaction, catalogue)
        self._transaction = transaction
        self.changes: list[Change] = []

    def insert(self, table: str, values: Mapping[str, Any]) -> Row:
        """Adds a row and returns it with everything that was filled in.

        Raises:
            SchemaViolation, UniqueViolation, ForeignKeyViolation, PrimaryKeyViolation: it cannot be.
        """
        row = self._catalogue.schema(table).insert(self._resolve(table, values))
        self._catalogue.entities[table].transform(row)
        ttl_s = row.pop("ttl", None) or None
        companion = self._take_companion(table, row, values)
        self._check(table, row)
        self._transaction.insert(table, row, ttl_s)
        return self._changed(table, None, row, companion)

    def update(self, table: str, old: Row, patch: Mapping[str, Any]) -> Row:
        """Changes the fields that are given.

        Raises:
            SchemaViolation, UniqueViolation, ForeignKeyViolation: it cannot be.
        """
        row = self._catalogue.schema(table).update(old, {**self._resolve(table, patch), "id": old["id"]})
        self._catalogue.entities[table].transform(row, patch)
        ttl_s = row.pop("ttl", None) or None
        if "ttl" not in patch:
            ttl_s = None
        companion = self._take_companion(table, row, patch, null=[])
        self._check(table, row)
        self._transaction.update(table, row, ttl_s, keeps_ttl="ttl" not in patch)
        return self._changed(table, old, row, companion)

    def upsert(self, table: str, old: Row | None, values: Mapping[str, Any]) -> Row:
        """Puts a row in the place of another, or adds it: what is not given goes back to its default.

        Raises:
            SchemaViolation, UniqueViolation, ForeignKeyViolation: it cannot be.
        """
        if old is None:
            return self.insert(table, values)
        kept = {"created_at": old["created_at"]} if "created_at" in old else {}
        fresh = self._catalogue.schema(table).upsert({**kept, **self._resolve(table, values), "id": old["id"]})
        self._catalogue.entities[table].transform(fresh)
        ttl_s = fresh.pop("ttl", None) or None
        companion = self._take_companion(table, fresh, values)
        self._check(table, fresh)
        self._transaction.update(table, fresh, ttl_s, keeps_ttl=False)
        return self._changed(table, old, fresh, companion)

    def put(self, table: str, row: Row, now_s: float, ttl_s: float | None = None) -> bool:
        """Stores a whole row as it is, in the place of the one of its id when there is one.

        Args:
            table: its table.
            row: validated, nothing missing.
            now_s: what its times say where nothing else was given; a row that was there keeps its own.
            ttl_s: how long it lives.

        Returns:
            Whether that changed more than times.

        Raises:
            UniqueViolation, ForeignKeyViolation: it cannot be.
        """
        old = self.reader.get(table, row["id"])
        if old is None:
            self._transaction.insert(table, row, ttl_s)
        else:
            is_same = all(row[field] == old.get(field) for field in row if field not in TIMES)
            if is_same and ttl_s is None and old.get("ttl") is None:
                return False
            if "created_at" in row and int(row["created_at"]) == int(now_s):
                row["created_at"] = old["created_at"]
            self._transaction.update(table, row, ttl_s, keeps_ttl=False)
        self._changed(table, old, row)
        return True

    def delete(self, table: str, row: Row) -> None:
        """Removes a row with everything that lives only with it.

        Raises:
            ForeignKeyViolation: a row that may not lose it refers to it.
            ReferencedByOthers: a row names it in a list.
        """
        if table == "ca_certificates":
            check_ca_certificate_is_unused(self.reader, row["id"])
        if self._transaction.is_read_only:
            # It says so of this row, before others are looked at.
            self._transaction.delete(table, row["id"])
        companion = self._catalogue.companions.get(table)
        if companion is not None:
            companion.remove(self, row["id"])
        for reference in self._catalogue.tables.references_to(table):
            where = {reference.field: row["id"]}
            if reference.on_delete == "restrict":
                if self.reader.find(reference.table, where) is not None:
                    raise ForeignKeyViolation.referenced(table, reference.table)
                continue
            for child in self.reader.page(reference.table, limit=_ALL_CHILDREN, where=where):
                if reference.on_delete == "cascade":
                    self.delete(reference.table, child)
                else:
                    orphan = {**child, reference.field: None}
                    orphan.pop("ttl", None)
                    self._transaction.update(reference.table, orphan)
                    self._changed(reference.table, child, orphan)
        self._transaction.delete(table, row["id"])
        self._note("delete", table, row, None)

    # === what every write goes through ===

    def _resolve(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with every parent named by its id."""
        resolved = dict(values)
        if isinstance(resolved.get("id"), str):
            resolved["id"] = resolved["id"].lower()
        for column in self._catalogue.tables[table].foreign:
            given = resolved.get(column.field)
            parent = self._catalogue.tables.get(column.references or "")
            if not isinstance(given, Mapping) or given.get("id") is not None or not given:
                if isinstance(given, Mapping) and isinstance(given.get("id"), str):
                    # UUIDs are compared without case (RFC 9562, section 4).
                    resolved[column.field] = {**given, "id": given["id"].lower()}
                continue
            key = None if parent is None or parent.endpoint_key is None else given.get(parent.endpoint_key)
            if parent is None or parent.endpoint_key is None or not isinstance(key, str):
                raise SchemaViolation({column.field: {"id": "missing primary key"}})
            found = self.reader.find(parent.name, {parent.endpoint_key: key})
            if found is None:
                raise ForeignKeysUnresolved(column.field, {parent.endpoint_key: key}, parent.name)
            resolved[column.field] = {"id": found["id"]}
        return resolved

    def _check(self, table: str, row: Row) -> None:
        declared = self._catalogue.tables[table]
        for column in declared.foreign:
            key = row.get(column.field)
            if key is None or column.references is None:
                continue
            if column.references not in self._catalogue.tables or self.reader.get(column.references, key["id"]) is None:
                raise ForeignKeyViolation.dangling(column.field, key, column.references)
        check = self._catalogue.checks.get(table)
        if check is not None:
            check(self.reader, row)

    def _take_companion(self, table: str, row: Row, given: Mapping[str, Any], null: Any = None) -> Any:
        """Takes out of a row what is kept as rows of another table; None leaves those as they are.

        Args:
            table: of the row.
            row: after validation.
            given: what the client gave of it.
            null: what null means.
        """
        companion = self._catalogue.companions.get(table)
        if companion is None:
            return None
        value = row.pop(companion.field, None)
        if companion.field not in given:
            return None
        value = null if value is None else value
        if value is not None:
            companion.check(self.reader, row["id"], value)
        return value

    def _changed(self, table: str, old: Row | None, new: Row, companion_value: Any = None) -> Row:
        shown = new
        if self._catalogue.tables[table].has_ttl:
            # Read back: the database adds the seconds that a row has left to live, which may be over already.
            shown = self.reader.get(table, new["id"]) or {**new, "ttl": 0}
        self._note("upsert", table, old, shown)
        companion = self._catalogue.companions.get(table)
        if companion is None:
            return shown
        if companion_value is not None:
            companion.store(self, new["id"], companion_value)
        return {**shown, companion.field: companion.value(self.reader, new["id"])}

    def _note(self, operation: Operation, table: str, old: Row | None, new: Row | None) -> None:
        row = new or old
        assert row is not None
        invalidations = self._catalogue.tables[table].invalidations(old, new)
        self.changes.append(Change(0, table, operation, row["id"], new, invalidations))


def _target(key: str) -> str:
    """A Target as it is stored, for one that may be written shorter."""
    try:
        return normalise_target(key)
    except ValueError:
        return key
