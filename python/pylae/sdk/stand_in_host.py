# SPDX-License-Identifier: Apache-2.0
"""What stands in for a plugin's host where there is no gateway? Lists and dicts, and a clock that a test turns."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pylae.sdk.entities import CallFailed, Row
from pylae.sdk.host import Host, Limit

START_MS: Final = 1_767_225_600_000
"""What a clock shows at first: 2026-01-01 00:00:00 UTC."""


class Clock:
    """A clock that a test turns."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._now_ms

    def turn(self, *, seconds: float) -> None:
        """Moves it forward."""
        self._now_ms += int(seconds * 1000)


class MemoryHost(Host):
    """A host whose database, counters, stream and log are lists and dicts."""

    def __init__(self, clock: Clock, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        super().__init__(clock.now_ms)
        self.clock = clock
        self.rows: dict[str, list[Row]] = {table: [dict(row) for row in of_table] for table, of_table in rows.items()}
        self.streamed: list[tuple[str, bytes]] = []
        self.lines: list[tuple[str, str]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.counters: dict[tuple[bytes, int, int], int] = {}
        self.connect(_MemoryGateway(self))

    def change(self, table: str, row_id: str, **changes: Any) -> None:
        """Changes a row as an administrator would, and tells the plugin's caches."""
        for row in self.rows.get(table, []):
            if row["id"] == row_id:
                told = _invalidations(table, row)
                row.update(changes)
                self.entities.invalidate([*told, *_invalidations(table, row)])

    def remove(self, table: str, row_id: str) -> None:
        """Deletes a row as an administrator would, and tells the plugin's caches."""
        for row in list(self.rows.get(table, [])):
            if row["id"] == row_id:
                self.rows[table].remove(row)
                self.entities.invalidate(_invalidations(table, row))


def _invalidations(table: str, row: Row) -> list[tuple[str, str, Any]]:
    """Every value by which the row could be found; of a foreign field the id."""
    return [(table, name, value["id"] if isinstance(value, dict) and "id" in value else value) for name, value in row.items()]


class _MemoryGateway:
    def __init__(self, host: MemoryHost) -> None:
        self._host = host
        self.on_invalidate: Callable[[list[tuple[str, str, Any]] | None], None] | None = host.entities.invalidate

    async def call(self, operation: str, args: bytes, timeout_ms: int) -> bytes:  # noqa: ARG002 - a gateway's call
        arguments = msgspec.msgpack.decode(args)
        self._host.calls.append((operation, arguments))
        # A real call always gives others a turn.
        await asyncio.sleep(0)
        answer = getattr(self, f"_{operation}")(**{name.replace("with", "joined"): v for name, v in arguments.items()})
        return msgspec.msgpack.encode(answer)

    def _find(self, table: str, field: str, value: Any) -> Row | None:
        for row in self._host.rows.get(table, []):
            if row.get(field) == value and row.get("_expires_at_ms", self._host.now_ms() + 1) > self._host.now_ms():
                return row
        return None

    def _find_joined(self, name: str, reference: Row) -> Row | None:
        """By convention a foreign field `consumer` refers to the table `consumers`, and else to one like `oauth2_consumers`."""
        tables = sorted(self._host.rows, key=len)
        found = (self._find(one, "id", reference["id"]) for one in tables if one == f"{name}s" or one.endswith(f"_{name}s"))
        return next((row for row in found if row is not None), None)

    def _public(self, row: Row) -> Row:
        shown = {name: value for name, value in row.items() if name != "_expires_at_ms"}
        if "_expires_at_ms" in row:
            shown["ttl"] = (row["_expires_at_ms"] - self._host.now_ms()) / 1000
        return shown

    def _select_by(self, table: str, field: str, value: Any, joined: Sequence[str]) -> Row | None:
        row = self._find(table, field, value)
        if row is None:
            return None
        row = self._public(row)
        for name in joined:
            reference = row.get(name)
            if reference is not None:
                row[name] = self._find_joined(name, reference) or reference
        return row

    def _select_owned(self, table: str, field: str, owner: str) -> list[Row]:
        rows = self._host.rows.get(table, [])
        return [self._public(row) for row in rows if (row.get(field) or {}).get("id") == owner]

    def _insert(self, table: str, row: Row, ttl: float | None = None) -> Row:
        stored = {"id": str(uuid.uuid4()), "created_at": self._host.now_ms() // 1000, **row}
        if self._find(table, "id", stored["id"]) is not None:
            raise CallFailed("unique constraint violation", f"UNIQUE violation detected on '{{id=\"{stored['id']}\"}}'")
        if ttl is not None:
            stored["_expires_at_ms"] = self._host.now_ms() + int(ttl * 1000)
        self._host.rows.setdefault(table, []).append(stored)
        self._host.entities.invalidate(_invalidations(table, stored))
        return self._public(stored)

    def _update(self, table: str, id: str, changes: Row, ttl: float | None = None) -> Row | None:  # noqa: A002 - the message's own
        row = self._find(table, "id", id)
        if row is None:
            return None
        if ttl is not None:
            changes = {**changes, "_expires_at_ms": self._host.now_ms() + int(ttl * 1000)}
        self._host.change(table, id, **changes)
        return self._public(row)

    def _delete(self, table: str, id: str) -> None:  # noqa: A002 - the message's own name
        self._host.remove(table, id)

    def _consume(self, table: str, field: str, value: Any) -> Row | None:
        row = self._find(table, field, value)
        if row is None:
            return None
        self._host.remove(table, row["id"])
        return self._public(row)

    def stream(self, channel: str, item: bytes) -> bool:
        self._host.streamed.append((channel, item))
        return True

    def counters_take(self, identifier: bytes, limits: list[Limit], cost: int) -> tuple[bool, list[int]]:
        usage = self.counters_read(identifier, limits)
        if any(used + cost > limit for used, (limit, _, _) in zip(usage, limits, strict=True)):
            return False, usage
        for used, (_, start_ms, end_ms) in zip(usage, limits, strict=True):
            self._host.counters[identifier, start_ms, end_ms] = used + cost
        return True, [used + cost for used in usage]

    def counters_read(self, identifier: bytes, limits: list[Limit]) -> list[int]:
        return [self._host.counters.get((identifier, start_ms, end_ms), 0) for _, start_ms, end_ms in limits]

    def log(self, level: str, message: str) -> None:
        self._host.lines.append((level, message))
