# SPDX-License-Identifier: Apache-2.0
"""How is a whole configuration held in memory?

Rows are kept encoded, as workers are sent them, and are decoded when they are asked for: 50,000 Routes are 30 MiB
so, and 100 MiB as dictionaries. Beside them stand the values by which rows are found. A holding is filled by one
thread, then only read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

import msgspec

from pylae.database.changes import Row
from pylae.database.strategies import TagFilter, TagKey
from pylae.database.table import PRIMARY_KEY, Table, Tables
from pylae.errors import PrimaryKeyViolation, UniqueViolation

encode_row: Final = msgspec.msgpack.Encoder().encode
decode_row: Final[Callable[[bytes], Row]] = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Rows:
    """The rows of one table.

    Attributes:
        encoded: by id.
        expires_at_s: of rows that have a time to live.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.encoded: dict[str, bytes] = {}
        self.expires_at_s: dict[str, float] = {}
        self._unique: dict[str, dict[Any, str]] = {field: {} for field in table.unique if field != PRIMARY_KEY}
        self._together: dict[tuple[Any, ...], str] = {}
        self._by_parent: dict[str, dict[str, list[str]]] = {column.field: {} for column in table.foreign}
        self._by_tag: dict[str, list[str]] = {}
        self._has_tags = table.column("tags") is not None
        self._order: list[str] | None = None

    def __repr__(self) -> str:
        return f"<rows {self.table.name} {len(self.encoded)}>"

    def add(self, row: Row, encoded: bytes, expires_at_s: float | None = None) -> None:
        """Takes a row in.

        Raises:
            UniqueViolation, PrimaryKeyViolation: there is one like it; nothing was taken in.
        """
        id_ = row["id"]
        taken: list[tuple[dict[Any, str], Any]] = []
        for field, index in self._unique.items():
            value = row[field]
            if value is not None:
                if type(value) is dict:
                    value = value["id"]
                if value in index:
                    raise UniqueViolation({field: row[field]})
                taken.append((index, value))
        if self.table.cache_key:
            together = tuple([value["id"] if type(value := row[field]) is dict else value for field in self.table.cache_key])
            if together in self._together:
                raise UniqueViolation({field: row[field] for field in self.table.cache_key})
            taken.append((self._together, together))
        if id_ in self.encoded:
            raise PrimaryKeyViolation({"id": id_})
        for index, value in taken:
            index[value] = id_
        self.encoded[id_] = encoded
        for field, children in self._by_parent.items():
            parent = row[field]
            if parent is not None:
                children.setdefault(parent["id"], []).append(id_)
        if self._has_tags and row["tags"]:
            for tag in row["tags"]:
                self._by_tag.setdefault(tag, []).append(id_)
        if expires_at_s is not None:
            self.expires_at_s[id_] = expires_at_s
        self._order = None

    def finish(self) -> None:
        """Puts ids in order; afterwards any thread may read."""
        self._order = sorted(self.encoded)
        for children in self._by_parent.values():
            for ids in children.values():
                ids.sort()
        for ids in self._by_tag.values():
            ids.sort()

    def get(self, id_: str, now_s: float) -> Row | None:
        """The row of an id, unless its time is over."""
        encoded = self.encoded.get(id_)
        if encoded is None or not self.is_alive(id_, now_s):
            return None
        row = decode_row(encoded)
        if self.table.has_ttl:
            expires_at_s = self.expires_at_s.get(id_)
            row["ttl"] = None if expires_at_s is None else max(int(expires_at_s - now_s), 0)
        return row

    def is_alive(self, id_: str, now_s: float) -> bool:
        """Whether the time of a row that is held is not over."""
        expires_at_s = self.expires_at_s.get(id_)
        return expires_at_s is None or expires_at_s > now_s

    def ids(self, where: Mapping[str, Any], tags: TagFilter | None, after: str | None = None) -> Iterator[str]:
        """In order, after an id, a superset of the ids of rows that have the values and tags: the shortest list known."""
        found = [listed for listed in (self._listed(field, value) for field, value in where.items()) if listed is not None]
        if tags is not None:
            by_tag = [self._by_tag.get(tag, []) for tag in tags.tags]
            if tags.is_any:
                return _after(dict.fromkeys(merge(*by_tag)), after)
            found += by_tag
        if found:
            shortest = min(found, key=len)
            return iter(shortest[_start(shortest, after) :])
        order = self._in_order()
        return islice(order, _start(order, after), None)

    def _listed(self, field: str, value: Any) -> list[str] | None:
        """The ids of rows that have a value, when that is known without looking at all of them."""
        if field == PRIMARY_KEY:
            return [value] if value in self.encoded else []
        if value is None:
            return None
        if field in self._unique:
            found = self._unique[field].get(value)
            return [] if found is None else [found]
        if field in self._by_parent:
            return self._by_parent[field].get(value, [])
        return None

    def _in_order(self) -> list[str]:
        if self._order is None:
            self.finish()
        assert self._order is not None
        return self._order

    def leading_keys(self) -> frozenset[Any]:
        """The values of the first field of those that are unique together."""
        return frozenset(together[0] for together in self._together)

    def tags(self) -> Mapping[str, list[str]]:
        """The ids of rows by tag."""
        return self._by_tag


class Holding(Mapping[str, Rows]):
    """Every table's rows.

    Attributes:
        hash: 32 hexadecimal digits that name the text they were made of.
    """

    def __init__(self, tables: Tables, hash_: str = "0" * 32) -> None:
        self.hash = hash_
        self._rows = {name: Rows(table) for name, table in tables.items()}
        # Made when they are asked for first: few ask.
        self._tag_keys: dict[str | None, list[TagKey]] = {}

    def __repr__(self) -> str:
        counts = " ".join(f"{name}={len(rows.encoded)}" for name, rows in self._rows.items() if rows.encoded)
        return f"<holding {self.hash} {counts}>"

    def __getitem__(self, table: str) -> Rows:
        return self._rows[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def finish(self) -> None:
        """Puts everything in order; afterwards any thread may read."""
        for rows in self._rows.values():
            rows.finish()

    def tag_keys(self, tag: str | None) -> list[TagKey]:
        """What is tagged so, or at all, in order; of a holding that is finished."""
        found = self._tag_keys.get(tag)
        if found is None:
            found = sorted(
                (id_, name, word)
                for name, rows in self._rows.items()
                for word, ids in (rows.tags().items() if tag is None else [(tag, rows.tags().get(tag, ()))])
                for id_ in ids
            )
            if found:
                self._tag_keys[tag] = found
        return found

    def reader(self, now_s: float) -> HoldingReader:
        """A look at what is held."""
        return HoldingReader(self, now_s)


class HoldingReader:
    """A look at a holding, at one moment."""

    def __init__(self, holding: Holding, now_s: float) -> None:
        self._holding = holding
        self._now_s = now_s

    def get(self, table: str, id_: str) -> Row | None:
        """See `Reader`."""
        return self._holding[table].get(id_, self._now_s)

    def find(self, table: str, values: dict[str, Any]) -> Row | None:
        """See `Reader`."""
        return next(self._matching(table, values), None)

    def page(
        self,
        table: str,
        *,
        limit: int,
        after: str | None = None,
        where: dict[str, Any] | None = None,
        tags: TagFilter | None = None,
    ) -> list[Row]:
        """See `Reader`."""
        return list(islice(self._matching(table, where or {}, tags, after), limit))

    def _matching(
        self, table: str, where: Mapping[str, Any], tags: TagFilter | None = None, after: str | None = None
    ) -> Iterator[Row]:
        rows = self._holding[table]
        for id_ in rows.ids(where, tags, after):
            row = rows.get(id_, self._now_s)
            if row is not None and _has(row, where) and (tags is None or _is_tagged(row, tags)):
                yield row

    def each(self, table: str) -> Iterator[Row]:
        """See `Reader`."""
        return self._matching(table, {})

    def tagged(self, tag: str | None, *, limit: int, after: TagKey | None = None) -> list[TagKey]:
        """See `Reader`."""
        keys = self._holding.tag_keys(tag)
        start = 0 if after is None else bisect_right(keys, after)
        alive = (key for key in islice(keys, start, None) if self._holding[key[1]].is_alive(key[0], self._now_s))
        return list(islice(alive, limit))


def _has(row: Row, values: Mapping[str, Any]) -> bool:
    for field, value in values.items():
        present = row.get(field)
        if (present["id"] if type(present) is dict and "id" in present else present) != value:
            return False
    return True


def _is_tagged(row: Row, tags: TagFilter) -> bool:
    own = row.get("tags") or ()
    return any(tag in own for tag in tags.tags) if tags.is_any else all(tag in own for tag in tags.tags)


def _start(ids: Sequence[str], after: str | None) -> int:
    return 0 if after is None else bisect_right(ids, after)


def _after(ids: Iterable[str], after: str | None) -> Iterator[str]:
    return iter(ids) if after is None else (id_ for id_ in ids if id_ > after)
