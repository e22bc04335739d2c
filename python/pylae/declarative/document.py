# SPDX-License-Identifier: Apache-2.0
"""Which rows does a declarative configuration stand for, and what is wrong with it?

Entities are read table by table, parents before children, so that each is looked at once: its references, its id,
its schema, its uniqueness, its encoded form. Nothing of the text is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from pylae.database.changes import Row
from pylae.database.dao import Catalogue, Check
from pylae.database.strategies import Reader
from pylae.database.strategies.off.holding import Holding, HoldingReader, encode_row
from pylae.database.strategies.off.strategy import keep_times
from pylae.database.table import Tables
from pylae.declarative import faults
from pylae.declarative.faults import Path
from pylae.declarative.ids import Ids
from pylae.declarative.migrating import OLD_FORMATS, migrated_route
from pylae.declarative.text import Unreadable, lines_of, read
from pylae.errors import InvalidDeclarativeConfig, PrimaryKeyViolation, SchemaViolation, UniqueViolation
from pylae.lua_text import lua_tostring
from pylae.schema import Entity, Schema
from pylae.schema.limits import MAX_INTEGER
from pylae.schema.validate import is_uuid

FORMATS: Final = (*OLD_FORMATS, "3.0")
CURRENT_FORMAT: Final = "3.0"
_MARKS: Final = ("_comment", "_ignore")
"""What may stand in the document and in every entity, and is of no effect."""
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for a parent that does not exist, while everything else about the child is looked at."""
NO_FILTERS: Final = "filter chains are only available when wasm is enabled"
"""Taken in silence they would let pass what they were meant to keep out."""
_PROGRESS_EVERY: Final = 500
MAX_LINES: Final = 20
"""Errors whose lines are told."""

Progress = Callable[[int, int], None]
"""Told how many entities were looked at, and how many there are."""


def parse(text: bytes) -> Document:
    """The document that a text is.

    Raises:
        InvalidDeclarativeConfig: it is neither JSON nor YAML, or no object.
    """
    try:
        values = read(text)
    except Unreadable as error:
        raise _unreadable(str(error)) from error
    if not isinstance(values, dict):
        raise _unreadable("expected an object")
    return Document(values, text)


def _unreadable(reason: str) -> InvalidDeclarativeConfig:
    return faults.invalid({"error": f"failed parsing declarative configuration: {reason}"}, None)


def hash_of(text: bytes) -> str:
    """The name of a text: 32 hexadecimal digits."""
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


class Document:
    """A declarative configuration as it was written.

    Attributes:
        values: nested as in the text.
        text: they came from.
    """

    def __init__(self, values: dict[str, Any], text: bytes) -> None:
        self.values = values
        self.text = text

    def __repr__(self) -> str:
        return f"<document {len(self.text)} bytes>"

    def flatten(
        self,
        catalogue: Catalogue,
        *,
        keep: Holding | None = None,
        present: Reader | None = None,
        now_s: float | None = None,
        flatten_errors: bool = False,
        hide_secrets: bool = False,
        progress: Progress | None = None,
    ) -> Holding:
        """The rows, all of them proper.

        Args:
            catalogue: what there is.
            keep: the present rows: those that say the same keep their times and bytes.
            present: the database, for a document that goes there: entities without an id have that of their row.
            now_s: the time of rows that are new.
            flatten_errors: tells errors entity by entity.
            hide_secrets: keeps values of secret fields out of errors, for those that are logged.
            progress: told now and then how far it is.

        Raises:
            InvalidDeclarativeConfig: with everything that is wrong.
        """
        kinds = kinds_of(catalogue)
        now_s = time.time() if now_s is None else now_s
        flattening = _Flattening(self, catalogue, kinds, keep, present, now_s, progress)
        flattening.hides_secrets = hide_secrets
        holding = flattening.run()
        fields = flattening.schema_errors or flattening.reference_errors
        if not fields:
            return holding
        # In the order of the document, not of the tables.
        fields = {**{name: fields[name] for name in self.values if name in fields}, **fields}
        if not flatten_errors:
            raise faults.invalid(fields)
        rest, flattened = faults.flatten_errors(fields, self.values, kinds, lambda table: children_of(kinds, table))
        raise faults.invalid(rest, flattened)

    def lines(self, fields: Mapping[str, Any], count: int = MAX_LINES) -> dict[Path, int]:
        """The lines of the first errors, as far as they are known."""
        return lines_of(self.text, [path for path, _ in islice(faults.leaves(fields), count)])


def is_declarable(entity: type[Entity]) -> bool:
    """Whether a document may hold rows of an entity, and an export does."""
    return entity.is_stored and entity.in_declarative_export


class Kind:
    """One table's entities in a document."""

    def __init__(self, entity: type[Entity], schema: Schema, tables: Tables, check: Check | None) -> None:
        table = tables[entity.table]
        self.entity = entity
        self.name = entity.table
        self.schema = schema
        self.ids = Ids(entity)
        self.endpoint_key = entity.endpoint_key
        self.cache_key = entity.cache_key or ()
        self.key_is_unique = entity.endpoint_key is not None and entity.fields[entity.endpoint_key].unique
        self.foreign = {column.field: column.references or "" for column in table.foreign}
        self.children: dict[str, tuple[Kind, str]] = {}
        """By the name of a list in the entity: what is in it, and the field by which that refers to the entity."""
        self.aside: frozenset[str] = frozenset(_MARKS)
        """What is no field of the entity."""
        self.numbers = [(column.field, column.type) for column in table.columns if column.type in ("integer", "number")]
        self.transient = [name for name, declared in entity.fields.items() if declared.transient]
        self.has_ttl = table.has_ttl
        self.check = check

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


def kinds_of(catalogue: Catalogue) -> dict[str, Kind]:
    """The kinds of entities by table, parents before children."""
    found = {
        name: Kind(entity, catalogue.schema(name), catalogue.tables, catalogue.checks.get(name))
        for name, entity in catalogue.entities.items()
        if name in catalogue.tables and is_declarable(entity)
    }
    for kind in found.values():
        for field, parent in kind.foreign.items():
            if parent in found:
                found[parent].children[kind.name] = kind, field
    ordered: dict[str, Kind] = {}

    def order(kind: Kind) -> None:
        for parent in kind.foreign.values():
            if parent in found and parent != kind.name and parent not in ordered:
                order(found[parent])
        ordered.setdefault(kind.name, kind)

    for kind in found.values():
        kind.aside = kind.aside | kind.children.keys()
        order(kind)
    return ordered


def children_of(kinds: Mapping[str, Kind], table: str) -> dict[str, str]:
    """The tables of what may stand in an entity, by the name of the list."""
    return {name: child.name for name, (child, _) in kinds[table].children.items()}


class _Entry:
    """One entity of a document."""

    __slots__ = ("field", "id", "item", "list_name", "parent", "position")

    def __init__(self, item: dict[str, Any], list_name: str, position: int, parent: _Entry | None, field: str | None) -> None:
        self.item = item
        self.list_name = list_name
        self.position = position
        self.parent = parent
        # Of the entity, by which it refers to the parent it stands in.
        self.field = field
        self.id = ""

    def path(self) -> Path:
        """Where it stands."""
        above: Path = () if self.parent is None else self.parent.path()
        return (*above, self.list_name, self.position)


class _Flattening:
    """One walk through a document."""

    def __init__(
        self,
        document: Document,
        catalogue: Catalogue,
        kinds: Mapping[str, Kind],
        keep: Holding | None,
        present: Reader | None,
        now_s: float,
        progress: Progress | None,
    ) -> None:
        self.schema_errors: dict[str, Any] = {}
        # Told only when there are no others: a parent that is wrong itself is no help.
        self.reference_errors: dict[str, Any] = {}
        self._values = document.values
        self._kinds = kinds
        self._keep = keep
        self._present = present
        self._now_s = now_s
        self._progress = progress
        self._holding = Holding(catalogue.tables, hash_of(document.text))
        self._reader = _Reader(self._holding, now_s)
        self._entries: dict[str, list[_Entry]] = {name: [] for name in kinds}
        self._ids_by_key: dict[str, dict[str, str]] = {name: {} for name in kinds}
        self._known_ids: dict[str, set[str]] = {name: set() for name in kinds}
        self._transforms = True
        self._is_old = False
        self.hides_secrets = False

    def run(self) -> Holding:
        """The rows; only those that nothing is wrong with, when there are errors."""
        self._look_at_marks()
        for name, items in self._values.items():
            if name in self._kinds:
                self._collect(self._kinds[name], name, items, None, None)
        total, done = sum(map(len, self._entries.values())), 0
        for name, kind in self._kinds.items():
            self._reader.forget()
            entries = self._entries[name]
            # Freed as it goes: what was looked at is there as a row.
            entries.reverse()
            while entries:
                self._add(kind, entries.pop())
                done += 1
                if self._progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
                    self._progress(done, total)
        self._holding.finish()
        return self._holding

    def _look_at_marks(self) -> None:
        errors, values = self.schema_errors, self._values
        version = values.get("_format_version")
        if version is None:
            errors["_format_version"] = "required field missing"
        elif not isinstance(version, str):
            errors["_format_version"] = "expected a string"
        elif version not in FORMATS:
            errors["_format_version"] = f"expected one of: {', '.join(FORMATS)}"
        transform = values.get("_transform")
        if transform is not None and not isinstance(transform, bool):
            errors["_transform"] = "expected a boolean"
        self._transforms = transform is not False
        self._is_old = version in OLD_FORMATS
        errors.update(_wrong_marks(values))
        for name in values:
            if name not in self._kinds and name not in ("_format_version", "_transform", *_MARKS):
                errors[name] = "unknown field"

    def _collect(self, kind: Kind, list_name: str, items: Any, parent: _Entry | None, field: str | None) -> None:
        if items is None:
            return
        above: Path = () if parent is None else parent.path()
        if items == {}:
            # Lua's empty table is a list too.
            return
        if not isinstance(items, list):
            faults.place(self.schema_errors, (*above, list_name), "expected an array")
            return
        if kind.name == "filter_chains" and items:
            faults.place(self.schema_errors, (*above, list_name), NO_FILTERS)
            return
        entries = self._entries[kind.name]
        for position, item in enumerate(items):
            if not isinstance(item, dict):
                problem = "required field missing" if item is None else "expected a record"
                faults.place(self.schema_errors, (*above, list_name, position), problem)
                continue
            entry = _Entry(item, list_name, position, parent, field)
            entries.append(entry)
            if not kind.children.keys().isdisjoint(item):
                for name, inner in item.items():
                    if name in kind.children:
                        child, child_field = kind.children[name]
                        self._collect(child, name, inner, entry, child_field)

    def _add(self, kind: Kind, entry: _Entry) -> None:
        values = entry.item.copy()
        errors: dict[str, Any] = {}
        if not kind.aside.isdisjoint(values):
            errors.update(_wrong_marks(values))
            for name in kind.aside & values.keys():
                del values[name]
        if self._is_old and kind.name == "routes":
            values = migrated_route(values)
        parents, broken = self._resolve(kind, entry, values, errors)
        given_id = values.get("id")
        if given_id is None:
            values["id"] = self._id_of_row(kind, values) or kind.ids.id_of(
                values, parents, entry.parent.id if entry.parent else None
            )
        elif isinstance(given_id, str):
            values["id"] = given_id.lower()
        entry.id = values["id"]
        self._note_key(kind, values, entry.id)
        row = self._row(kind, values, errors)
        if row is None:
            faults.place(self.schema_errors, entry.path(), errors)
            return
        if broken:
            faults.place(self.reference_errors, entry.path(), broken)
            return
        self._hold(kind, entry, row, is_creation_given=values.get("created_at") is not None)

    def _id_of_row(self, kind: Kind, values: Mapping[str, Any]) -> str | None:
        """The id of the row that the database has for an entity."""
        if self._present is None:
            return None
        named = kind.cache_key if kind.cache_key else (kind.endpoint_key,) if kind.key_is_unique and kind.endpoint_key else ()
        wanted = {field: value["id"] if isinstance(value := values.get(field), dict) else value for field in named}
        if not any(isinstance(value, str) for value in wanted.values()):
            return None
        if not all(value is None or isinstance(value, str) for value in wanted.values()):
            return None
        row = self._present.find(kind.name, wanted)
        return None if row is None else str(row["id"])

    def _note_key(self, kind: Kind, values: Mapping[str, Any], id_: Any) -> None:
        if isinstance(id_, str):
            self._known_ids[kind.name].add(id_)
            if kind.key_is_unique and kind.endpoint_key is not None:
                key = values.get(kind.endpoint_key)
                if isinstance(key, str):
                    self._ids_by_key[kind.name].setdefault(key, id_)

    def _resolve(
        self, kind: Kind, entry: _Entry, values: dict[str, Any], errors: dict[str, Any]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Puts ids in the place of references: the ids by field, and by field what is wrong with those that lead nowhere."""
        parents: dict[str, str] = {}
        broken: dict[str, str] = {}
        for field, table in kind.foreign.items():
            given = values.get(field)
            if field == entry.field:
                assert entry.parent is not None
                if given is not None:
                    errors[field] = "value must be null"
                parents[field] = entry.parent.id if isinstance(entry.parent.id, str) else _NOBODY
                values[field] = {"id": parents[field]}
                continue
            if given is None:
                continue
            name = _named(given, self._kinds[table].endpoint_key if table in self._kinds else None)
            if name is None:
                errors[field] = "expected a string"
                del values[field]
                continue
            found = self._find(table, name)
            if found is None:
                broken[field] = f"invalid reference '{field}: {name}' (no such entry in '{table}')"
            parents[field] = found or name
            values[field] = {"id": found or _NOBODY}
        return parents, broken

    def _find(self, table: str, name: str) -> str | None:
        """The id of the entity that a reference names."""
        if is_uuid(name) and name.lower() in self._known_ids.get(table, ()):
            return name.lower()
        return self._ids_by_key.get(table, {}).get(name)

    def _row(self, kind: Kind, values: dict[str, Any], errors: dict[str, Any]) -> Row | None:
        """The whole row; None when there are errors, which are added."""
        try:
            row = kind.schema.insert(values, now_s=self._now_s)
            for field, type_ in kind.numbers:
                number = row[field]
                if number is not None and not -MAX_INTEGER <= number <= MAX_INTEGER:
                    errors[field] = "expected an integer" if type_ == "integer" else "expected a number"
            if self._transforms and not errors:
                kind.entity.transform(row)
            if kind.check is not None and not errors:
                kind.check(self._reader, row)
        except SchemaViolation as violation:
            found = violation.fields or {}
            if self.hides_secrets:
                variant = kind.schema.variant_for(values)
                found = faults.without_secrets(found, values, (variant or kind.schema).fields)
            errors.update({**found, **errors})
        return None if errors else row

    def _hold(self, kind: Kind, entry: _Entry, row: Row, *, is_creation_given: bool) -> None:
        ttl_s = row.pop("ttl", None) if kind.has_ttl else None
        for name in kind.transient:
            row.pop(name, None)
        present = None if self._keep is None else self._keep[kind.name].encoded.get(row["id"])
        try:
            if present is None:
                encoded = encode_row(row)
            else:
                encoded = keep_times(row, present, encode_row, is_creation_given=is_creation_given)
            self._holding[kind.name].add(row, encoded, None if not ttl_s else self._now_s + ttl_s)
        except UniqueViolation as violation:
            faults.place(self.reference_errors, entry.path(), self._not_unique(kind, row, violation))
        except PrimaryKeyViolation:
            faults.place(self.reference_errors, entry.path(), _declared_already(kind.name, "primary key", row["id"]))
        except OverflowError:
            faults.place(self.schema_errors, entry.path(), {"@entity": ["a number is too large"]})

    def _not_unique(self, kind: Kind, row: Row, violation: UniqueViolation) -> str:
        fields = violation.fields or {}
        if len(fields) > 1 and row["id"] in self._holding[kind.name].encoded:
            return _declared_already(kind.name, "primary key", row["id"])
        if self.hides_secrets:
            fields = {name: faults.HIDDEN if kind.schema.fields[name].secret else value for name, value in fields.items()}
        values = ", ".join(lua_tostring(value["id"] if isinstance(value, dict) else value) for value in fields.values())
        return _declared_already(kind.name, ", ".join(fields), values)


def _declared_already(table: str, field: str, value: str) -> str:
    return f"uniqueness violation: '{table}' entity with {field} set to '{value}' already declared"


def _wrong_marks(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    comment, ignored = values.get("_comment"), values.get("_ignore")
    if comment is not None and not isinstance(comment, str):
        yield "_comment", "expected a string"
    if ignored is not None and not isinstance(ignored, list) and ignored != {}:
        yield "_ignore", "expected an array"


def _named(given: Any, endpoint_key: str | None) -> str | None:
    """What a reference says: a text, or an object with an id or a key; None for anything else."""
    if isinstance(given, Mapping):
        given = given.get("id") or (given.get(endpoint_key) if endpoint_key is not None else None)
    return given if isinstance(given, str) and given else None


class _Reader(HoldingReader):
    """A look at the rows so far that remembers what many plugins of one Service ask for."""

    def __init__(self, holding: Holding, now_s: float) -> None:
        super().__init__(holding, now_s)
        self._route_protocols: dict[str, frozenset[frozenset[str]]] = {}

    def forget(self) -> None:
        """Another table's turn: rows have come."""
        self._route_protocols.clear()

    def route_protocols(self, service_id: str) -> Collection[frozenset[str]]:
        """See `KnowsProtocols`."""
        found = self._route_protocols.get(service_id)
        if found is None:
            routes = self._matching("routes", {"service": service_id})
            found = self._route_protocols[service_id] = frozenset(frozenset(route["protocols"] or ()) for route in routes)
        return found

    def sequence(self) -> int:
        """See `Reader`."""
        return 0

    def changes_after(self, sequence: int) -> list[Any]:
        """See `Reader`."""
        del sequence
        return []


def reader_of(holding: Holding) -> Reader:
    """A look at a document's rows."""
    return _Reader(holding, time.time())
