# SPDX-License-Identifier: Apache-2.0
"""What would a declarative configuration change?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pylae.database.changes import Row
from pylae.database.dao import TIMES, Catalogue
from pylae.database.strategies import Reader
from pylae.database.strategies.off.holding import Holding, decode_row
from pylae.declarative.document import Progress, kinds_of
from pylae.declarative.faults import HIDDEN
from pylae.schema import Field

_PROGRESS_EVERY: Final = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that would come, change or go.

    Attributes:
        name: what it is called: its endpoint key, else its id.
        fields: by dotted path the value now and the value then; secrets are hidden.
    """

    operation: Literal["create", "update", "delete"]
    table: str
    id: str
    name: str
    fields: Mapping[str, tuple[Any, Any]]


def differences(present: Reader, wanted: Holding, catalogue: Catalogue, progress: Progress | None = None) -> Iterator[Difference]:
    """What differs, table by table, parents before children.

    Args:
        present: the database.
        wanted: what a document stands for.
        catalogue: what there is.
        progress: told now and then how far it is.
    """
    total = sum(len(wanted[name].encoded) for name in kinds_of(catalogue))
    done = 0
    for name, kind in kinds_of(catalogue).items():
        missing = dict.fromkeys(wanted[name].encoded)
        fields = kind.schema.fields
        for old in present.each(name):
            id_ = old["id"]
            encoded = wanted[name].encoded.get(id_)
            if encoded is None:
                yield Difference("delete", name, id_, _name(old, kind.endpoint_key, fields), {})
                continue
            del missing[id_]
            done = _told(progress, done, total)
            new = decode_row(encoded)
            variant = kind.schema.variant_for(new)
            changed = dict(_changed(old, new, fields if variant is None else variant.fields))
            if changed:
                yield Difference("update", name, id_, _name(new, kind.endpoint_key, fields), changed)
        for id_ in missing:
            done = _told(progress, done, total)
            new = decode_row(wanted[name].encoded[id_])
            variant = kind.schema.variant_for(new)
            given = dict(_given(new, fields if variant is None else variant.fields))
            yield Difference("create", name, id_, _name(new, kind.endpoint_key, fields), given)
    if progress is not None:
        progress(total, total)


def _told(progress: Progress | None, done: int, total: int) -> int:
    if progress is not None and done % _PROGRESS_EVERY == 0:
        progress(done, total)
    return done + 1


def _name(row: Row, endpoint_key: str | None, fields: Mapping[str, Field]) -> str:
    if endpoint_key is not None and row.get(endpoint_key) is not None and not fields[endpoint_key].secret:
        return str(row[endpoint_key])
    if "name" in row and row["name"] is not None:
        return f"{row['name']} ({row['id']})"
    return str(row["id"])


def _changed(old: Row, new: Row, fields: Mapping[str, Field]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for field in new:
        if field in TIMES or field == "ttl":
            continue
        before, after = old.get(field), new[field]
        if before != after:
            yield from _inside(field, before, after, fields.get(field))


def _inside(path: str, before: Any, after: Any, declared: Field | None) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The parts of a value that differ: records field by field, everything else whole."""
    is_record = declared is not None and declared.record is not None
    if is_record and isinstance(before, dict) and isinstance(after, dict):
        assert declared is not None
        assert declared.record is not None
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                yield from _inside(f"{path}.{name}", before.get(name), after.get(name), declared.record.fields.get(name))
    else:
        yield path, (hidden(before, declared), hidden(after, declared))


def _given(row: Row, fields: Mapping[str, Field]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What of a new row is worth saying: what is not null."""
    for field, value in row.items():
        if value is not None and field not in TIMES and field != "id":
            yield field, (None, hidden(value, fields.get(field)))


def hidden(value: Any, declared: Field | None) -> Any:
    """A value with what is secret in it hidden."""
    if value is None or declared is None:
        return value
    if declared.secret:
        return HIDDEN
    if declared.record is not None and isinstance(value, dict):
        return {name: hidden(inner, declared.record.fields.get(name)) for name, inner in value.items()}
    if declared.elements is not None and isinstance(value, list):
        return [hidden(inner, declared.elements) for inner in value]
    if declared.values is not None and isinstance(value, dict):
        return {name: hidden(inner, declared.values) for name, inner in value.items()}
    return value
