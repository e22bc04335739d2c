# SPDX-License-Identifier: Apache-2.0
"""How does a plugin read and write its entities from a worker?

Rows live in the control process' database. A `Lookup` keeps those it has seen, and the names it knows to be
absent, until control says that they changed; many requests for one unknown value make one call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

Row = dict[str, Any]
Call = Callable[[str, bytes, int], Awaitable[bytes]]

MAX_ROWS: Final = 65_536
"""Rows one look-up keeps."""
MAX_SECOND_CHANCES: Final = 8
"""Rows looked at to find one to give up, so that making room never takes long."""
MAX_ABSENT: Final = 8_192
"""Absent values one look-up keeps: apart from the rows, so that guessed keys never push out real ones."""
MAX_ABSENT_CHARACTERS: Final = 256
"""Longer absent values are asked for each time."""
CALL_TIMEOUT_MS: Final = 5_000
RETRY_PAUSE_S: Final = 0.05
_PASSING_FAILURES: Final = frozenset({"unavailable", "busy", "overloaded"})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class CallFailed(Exception):
    """The control process could not be asked, or refused; `name` is its error's name."""

    fault: ClassVar[str] = "identity_system_failed"
    """What it is when a plugin does not catch it; see `pylae.sdk.auth.systems`."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message

    @property
    def said(self) -> str:
        """What the fault says, in one line."""
        return f"the database, asked through the control process: {self.name}: {self.message}"


class Missing:
    """Nothing is known yet: neither a row nor its absence."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class Lookup:
    """Rows of one table by one unique field.

    Args:
        joined: Foreign fields whose whole row comes along, with the table each refers to.
        prepare: Makes what is kept and answered from a row, once per row.
    """

    def __init__(
        self,
        select: Callable[[str, str, Any, Sequence[str]], Awaitable[Row | None]],
        now_ms: Callable[[], int],
        table: str,
        field: str,
        joined: Mapping[str, str],
        prepare: Callable[[Row], Any],
    ) -> None:
        self.table = table
        self.field = field
        self._joined = dict(joined)
        self._select = select
        self._now_ms = now_ms
        self._prepare = prepare
        # Values: (prepared, row, expires_at_ms or 0). A row with a TTL is forgotten on time even if nobody says so.
        self._rows: OrderedDict[Any, tuple[Any, Row, int]] = OrderedDict()
        # What was made of the rows without a TTL that were asked for again: one step to an answer. Each is in `_rows`, too.
        self._hot: dict[Any, Any] = {}
        self._absent: OrderedDict[Any, None] = OrderedDict()
        # Invariant: every joined row of a cached row has its cached value listed here.
        self._dependents: dict[tuple[str, Any], set[Any]] = {}
        self._in_flight: dict[Any, asyncio.Task[Any]] = {}
        # Answers to these calls may be older than an invalidation that has arrived: use them once, keep them not.
        self._stale: set[Any] = set()

    def __repr__(self) -> str:
        return f"<lookup {self.table}.{self.field} rows={len(self._rows)} absent={len(self._absent)}>"

    def cached(self, value: Any) -> Any:
        """What was made of the row, `None` when it is known to be absent, `MISSING` when nobody asked yet; never waits."""
        prepared = self._hot.get(value, MISSING)
        if prepared is not MISSING:
            return prepared
        entry = self._rows.get(value)
        if entry is not None:
            prepared, _, expires_at_ms = entry
            if not expires_at_ms:
                self._hot[value] = prepared
            elif expires_at_ms <= self._now_ms():
                self._drop(value)
                return MISSING
            self._rows.move_to_end(value)
            return prepared
        return None if value in self._absent else MISSING

    async def get(self, value: Any) -> Any:
        """What was made of the row or `None`, from the cache or by one call shared by all who ask.

        Raises:
            CallFailed: control could not be asked in time.
        """
        known = self.cached(value)
        if known is not MISSING:
            return known
        task = self._in_flight.get(value)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(value))
            self._in_flight[value] = task
            task.add_done_callback(_retrieve)
        # A client that leaves must not cancel the call of the others.
        return await asyncio.shield(task)

    async def _fetch(self, value: Any) -> Any:
        try:
            row = await self._select(self.table, self.field, value, tuple(self._joined))
            prepared = None if row is None else self._prepare(row)
            if value not in self._stale:
                self._keep(value, row, prepared)
            return prepared
        finally:
            self._in_flight.pop(value, None)
            self._stale.discard(value)

    def _keep(self, value: Any, row: Row | None, prepared: Any) -> None:
        if row is None:
            if not isinstance(value, str) or len(value) <= MAX_ABSENT_CHARACTERS:
                self._absent[value] = None
                if len(self._absent) > MAX_ABSENT:
                    self._absent.popitem(last=False)
            return
        ttl_s = row.get("ttl")
        expires_at_ms = 0
        if ttl_s is not None:
            expires_at_ms = self._now_ms() + int(ttl_s * 1000)
        self._rows[value] = (prepared, row, expires_at_ms)
        for key in self._keys_joined(row):
            self._dependents.setdefault(key, set()).add(value)
        if len(self._rows) > MAX_ROWS:
            self._drop_one()

    def _drop_one(self) -> None:
        """Makes room for a row: the one longest unused goes, near enough (a "clock" of the recently used)."""
        for _ in range(MAX_SECOND_CHANCES):
            oldest = next(iter(self._rows))
            if self._hot.pop(oldest, MISSING) is MISSING:
                break
            # Asked for since it was last looked at.
            self._rows.move_to_end(oldest)
        self._drop(next(iter(self._rows)))

    def _keys_joined(self, row: Row) -> Iterable[tuple[str, Any]]:
        for field, table in self._joined.items():
            foreign = row.get(field)
            if foreign is not None:
                yield table, foreign["id"]
        if self.field != "id" and "id" in row:
            yield self.table, row["id"]

    def _drop(self, value: Any) -> None:
        self._absent.pop(value, None)
        self._hot.pop(value, None)
        entry = self._rows.pop(value, None)
        if entry is None:
            return
        for key in self._keys_joined(entry[1]):
            values = self._dependents.get(key)
            if values is not None:
                values.discard(value)
                if not values:
                    del self._dependents[key]

    def invalidate(self, table: str, field: str, value: Any) -> None:
        """Forgets what rests on a row that changed."""
        if table == self.table and field == self.field:
            self._drop(value)
        if field == "id":
            for dependent in tuple(self._dependents.get((table, value), ())):
                self._drop(dependent)
        if self._in_flight and (table == self.table or table in self._joined.values()):
            self._stale.update(self._in_flight)

    def clear(self) -> None:
        """Forgets everything."""
        self._rows.clear()
        self._hot.clear()
        self._absent.clear()
        self._dependents.clear()
        self._stale.update(self._in_flight)


def _retrieve(task: asyncio.Task[Any]) -> None:
    # Everyone who waited may be gone; asyncio would complain of an exception nobody saw.
    if not task.cancelled():
        task.exception()


def _unchanged(row: Row) -> Row:
    return row


class Entities:
    """Entities by call, for plugins in a worker."""

    def __init__(self, call: Call, now_ms: Callable[[], int]) -> None:
        self._call = call
        self._now_ms = now_ms
        self._lookups: dict[tuple[Any, ...], Lookup] = {}

    def connect(self, call: Call) -> None:
        """Asks through this from now on."""
        self._call = call

    def lookup(
        self,
        table: str,
        field: str,
        joined: Mapping[str, str] | None = None,
        prepare: Callable[[Row], Any] | None = None,
    ) -> Lookup:
        """The cached look-up of a table by a unique field, shared by all who ask for the same.

        Args:
            table: The entity's table.
            field: A unique field of it.
            joined: Foreign fields whose whole row is wanted, and the table each refers to: `{"consumer": "consumers"}`.
            prepare: Makes what is kept and answered from a row, once per row; the row itself when not given.
        """
        key = (table, field, tuple(sorted((joined or {}).items())), prepare)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = Lookup(self._select, self._now_ms, table, field, joined or {}, prepare or _unchanged)
            self._lookups[key] = lookup
        return lookup

    def lookup_owned(self, table: str, field: str, prepare: Callable[[list[Row]], Any]) -> Lookup:
        """The cached look-up of all rows that a row of another table owns, such as the groups of a Consumer.

        Args:
            table: The entity's table.
            field: A foreign field of its cache key; the look-up is by the id that it refers to.
            prepare: Makes what is kept and answered from the rows, which may be none.
        """
        key = (table, field, "owned", prepare)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = Lookup(self._select_owned, self._now_ms, table, field, {}, lambda rows: prepare(rows["rows"]))
            self._lookups[key] = lookup
        return lookup

    async def _select_owned(self, table: str, field: str, value: Any, joined: Sequence[str]) -> Row:  # noqa: ARG002 - as `_select`
        rows = await self._asked("select_owned", _encode({"table": table, "field": field, "owner": value}))
        return {"rows": rows}

    async def select_by(self, table: str, field: str, value: Any, joined: Sequence[str] = ()) -> Row | None:
        """Reads one row past every cache.

        Raises:
            CallFailed: control could not be asked in time.
        """
        return await self._select(table, field, value, joined)

    async def _select(self, table: str, field: str, value: Any, joined: Sequence[str]) -> Row | None:
        arguments = _encode({"table": table, "field": field, "value": value, "with": list(joined)})
        row: Row | None = await self._asked("select_by", arguments)
        return row

    async def _asked(self, operation: str, arguments: bytes) -> Any:
        """What control answers to a question."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + CALL_TIMEOUT_MS / 1000
        while True:
            remaining_ms = int((deadline_s - loop.time()) * 1000)
            try:
                answer = _decode(await self._call(operation, arguments, max(remaining_ms, 1)))
            except CallFailed as failure:
                # Reading twice does no harm: a control process that was killed is back within two seconds.
                if failure.name not in _PASSING_FAILURES or loop.time() + RETRY_PAUSE_S >= deadline_s:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return answer

    async def insert(self, table: str, row: Mapping[str, Any], ttl_s: float | None = None) -> Row:
        """Writes one row; it vanishes after `ttl_s` when given.

        Raises:
            CallFailed: control refused (`schema violation`, `unique constraint violation`, ...) or was not there.
        """
        arguments: dict[str, Any] = {"table": table, "row": dict(row)}
        if ttl_s is not None:
            arguments["ttl"] = ttl_s
        stored: Row = _decode(await self._call("insert", _encode(arguments), CALL_TIMEOUT_MS))
        return stored

    async def update(self, table: str, id_: str, changes: Mapping[str, Any], ttl_s: float | None = None) -> Row | None:
        """Changes one row, which vanishes after `ttl_s` when given; None if there is no such row (any more).

        Raises:
            CallFailed: control refused or was not there.
        """
        arguments: dict[str, Any] = {"table": table, "id": id_, "changes": dict(changes)}
        if ttl_s is not None:
            arguments["ttl"] = ttl_s
        row: Row | None = _decode(await self._call("update", _encode(arguments), CALL_TIMEOUT_MS))
        return row

    async def delete(self, table: str, id_: str) -> None:
        """Deletes one row; an absent one is no error."""
        await self._call("delete", _encode({"table": table, "id": id_}), CALL_TIMEOUT_MS)

    async def consume(self, table: str, field: str, value: Any) -> Row | None:
        """Reads and deletes one row in one step: of all who try, on any worker, exactly one gets it."""
        arguments = _encode({"table": table, "field": field, "value": value})
        row: Row | None = _decode(await self._call("consume", arguments, CALL_TIMEOUT_MS))
        return row

    def invalidate(self, changes: Sequence[tuple[str, str, Any]] | None) -> None:
        """Forgets what rests on these rows; everything for `None`."""
        if changes is None:
            for lookup in self._lookups.values():
                lookup.clear()
            return
        for table, field, value in changes:
            for lookup in self._lookups.values():
                lookup.invalidate(table, field, value)
