# SPDX-License-Identifier: Apache-2.0
"""Which requests failed lately, and what did the worker that served each see of it?

Workers stream one record for each such request, and of a share of the others. The bytes are kept as they came, in one
ring for each kind; of a record only its head is read when it arrives. All that is kept is bounded by count, age and
size, and what a worker says cannot be read is counted and dropped.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Annotated, Any, Final, Literal

import msgspec

from pylae.control.line import Log, WorkerState

EXPLAIN_CHANNEL: Final = "explain"
Kind = Literal["failed", "refused", "recovered", "probe", "sample"]
KINDS: Final[dict[int, Kind]] = {
    ord("F"): "failed",
    ord("R"): "refused",
    ord("V"): "recovered",
    ord("P"): "probe",
    ord("S"): "sample",
}
"""By the letter in the head of an item."""
GIVEN_UP: Final[tuple[tuple[Kind, ...], ...]] = (("sample",), ("recovered", "refused"), ("probe",), ("failed",))
"""What goes first when memory runs out; of kinds that stand together the older record."""
MAX_RECORD_BYTES: Final = 32 * 1024
"""Twice what a worker makes of one."""
RECORD_COSTS_BYTES: Final = 768
"""What is kept beside the bytes of a record, rounded up."""
MAX_TEXT_CHARACTERS: Final = 128
"""Of what is kept of a head."""
MAX_WAITERS: Final = 64
"""Requests that wait for a record at once; more are answered without it."""
MAX_WAITING_ITEMS: Final = 50_000
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Of items that came and were not looked at yet; what goes beyond is lost, and counted."""
ITEMS_AT_ONCE: Final = 64
"""Looked at before the lines to the workers get their turn."""
MAX_COUNTED: Final = 1000
"""Pairs of cause and Service with a count of their own; what comes later is counted as of another Service."""
OTHER: Final = "other"
MAX_SHOWN_BYTES: Final = 100
_HEAD: Final = re.compile(rb"([0-9a-f]{32}) ([FRVPS]) (?=\{)")
_ID: Final = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)

Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Named(msgspec.Struct, frozen=True):
    """A row that took part."""

    id: Text | None = None
    name: Text | None = None


class ServiceHead(Named, frozen=True):
    """A Service, and how long it may take."""

    read_timeout_ms: float | None = None
    retries: int | None = None


class ClientHead(msgspec.Struct, frozen=True):
    """Who called."""

    peer: Text | None = None
    departed_after_ms: float | None = None


class AnswerHead(msgspec.Struct, frozen=True):
    """Who wrote what came from behind."""

    written_by: Text | None = None


class AttemptHead(msgspec.Struct, frozen=True):
    """When an attempt was answered."""

    head_ms: float | None = None


class Head(msgspec.Struct, frozen=True):
    """What control itself looks at in a record."""

    status: int | None = None
    fault: Text | None = None
    side: Text | None = None
    probe: Text | None = None
    route: Named | None = None
    service: ServiceHead | None = None
    client: ClientHead | None = None
    answer: AnswerHead | None = None
    attempts: list[AttemptHead] | None = None
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept.

    Attributes:
        count: records of each kind.
        age_s: of the oldest.
        size_bytes: of all together.
    """

    count: int = 10_000
    age_s: float = 86_400.0
    size_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One record.

    Attributes:
        sequence: grows with every record that came.
        raw: its JSON, as the worker wrote it.
    """

    sequence: int
    id: str
    kind: Kind
    raw: bytes
    received_s: float
    status: int | None
    cause: str | None
    route: tuple[str | None, str | None]
    """Id and name."""
    service: tuple[str | None, str | None]
    probe: str | None

    @property
    def cost_bytes(self) -> int:
        """What it takes."""
        return len(self.raw) + RECORD_COSTS_BYTES

    def record(self) -> dict[str, Any]:
        """Decoded, with the id and the kind that its item has; what cannot be decoded is left out."""
        try:
            found = msgspec.json.decode(self.raw)
        except (ValueError, RecursionError):
            found = {}
        return {**found, "request_id": self.id, "kind": self.kind}


class Explain:
    """Keeps what workers tell of single requests.

    Args:
        log: takes lines for the error log.
        limits: how much is kept.
        now_s: the time of the epoch.
    """

    def __init__(self, log: Log, limits: Limits | None = None, now_s: Callable[[], float] = time.time) -> None:
        self._log = log
        self.limits = limits or Limits()
        self.now_s = now_s
        self._rings: dict[Kind, deque[Kept]] = {kind: deque() for kind in KINDS.values()}
        self._by_id: dict[str, Kept] = {}
        self._by_probe: dict[str, deque[Kept]] = {}
        self._size_bytes = 0
        self._sequence = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_scheduled = False
        self._waiters: dict[str, set[asyncio.Future[Kept]]] = {}
        self._waiter_count = 0
        self._decode = msgspec.json.Decoder(Head).decode
        self.listeners: list[Callable[[Kept, Head], None]] = []
        """Told of every record that came, in order."""
        self.unreadable_count = 0
        self.lost_count = 0
        """Items that a worker or this process had no room for."""
        self.received: Counter[Kind] = Counter()
        self.failures: Counter[tuple[str, str, str]] = Counter()
        """Failed requests by cause, side and Service."""

    def __repr__(self) -> str:
        counts = " ".join(f"{kind}={len(ring)}" for kind, ring in self._rings.items())
        return f"<explain {counts} bytes={self._size_bytes}>"

    @property
    def size_bytes(self) -> int:
        """What all that is kept takes."""
        return self._size_bytes

    def count(self, kind: Kind) -> int:
        """How many records of a kind are kept."""
        return len(self._rings[kind])

    # === what is streamed ===

    def take(self, worker: WorkerState | None, items: Iterable[bytes], lost_count: int = 0) -> None:
        """Puts items aside and returns at once; they are looked at when the lines had their turn.

        Args:
            worker: who saw it; none is told apart.
            items: each an id, the letter of its kind, and the record.
            lost_count: items that the worker could not send.
        """
        del worker
        self.lost_count += lost_count
        for item in items:
            if not isinstance(item, bytes) or len(item) > MAX_RECORD_BYTES:
                self._cannot_read(item, f"more than {MAX_RECORD_BYTES} bytes, or none")
            elif len(self._waiting) == MAX_WAITING_ITEMS or self._waiting_bytes + len(item) > MAX_WAITING_BYTES:
                self.lost_count += 1
            else:
                self._waiting.append(item)
                self._waiting_bytes += len(item)
        self._look_soon()

    def _look_soon(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_scheduled = False
        try:
            self.look(ITEMS_AT_ONCE)
        finally:
            self._look_soon()

    def look(self, most: int = MAX_WAITING_ITEMS) -> None:
        """Keeps the first of the items that were put aside."""
        for _ in range(min(most, len(self._waiting))):
            item = self._waiting.popleft()
            self._waiting_bytes -= len(item)
            self._keep(item)
        self.forget_old()

    def _keep(self, item: bytes) -> None:
        matched = _HEAD.match(item)
        if matched is None:
            self._cannot_read(item, "expected an id, the letter of a kind, and a JSON object")
            return
        raw = item[matched.end() :]
        try:
            raw.decode()
            head = self._decode(raw)
        except (ValueError, RecursionError) as error:
            self._cannot_read(item, str(error))
            return
        self._sequence += 1
        kind = KINDS[matched[2][0]]
        kept = Kept(
            self._sequence,
            matched[1].decode(),
            kind,
            raw,
            self.now_s(),
            head.status,
            _cut(head.fault),
            _named(head.route),
            _named(head.service),
            _cut(head.probe),
        )
        self._count(kept, head)
        self._put_in(kept)
        for waiter in self._waiters.pop(kept.id, ()):
            if not waiter.done():
                waiter.set_result(kept)
        for tell in self.listeners:
            tell(kept, head)

    def _cannot_read(self, item: object, why: str) -> None:
        self.unreadable_count += 1
        if self.unreadable_count == 1:
            shown = repr(item[:MAX_SHOWN_BYTES] if isinstance(item, bytes) else type(item).__name__)
            self._log("error", f"the record of a request cannot be read: {why}: {shown}; further ones are only counted")

    def _count(self, kept: Kept, head: Head) -> None:
        self.received[kept.kind] += 1
        if kept.kind == "failed":
            key = kept.cause or "", _cut(head.side) or "", kept.service[1] or kept.service[0] or ""
            if key not in self.failures and len(self.failures) >= MAX_COUNTED:
                key = (*key[:2], OTHER) if len(self.failures) < 2 * MAX_COUNTED else (OTHER, OTHER, OTHER)
            self.failures[key] += 1

    def _put_in(self, kept: Kept) -> None:
        self._rings[kept.kind].append(kept)
        self._by_id[kept.id] = kept
        if kept.probe is not None:
            self._by_probe.setdefault(kept.probe, deque()).append(kept)
        self._size_bytes += kept.cost_bytes
        if len(self._rings[kept.kind]) > self.limits.count:
            self._drop_oldest(kept.kind)
        while self._size_bytes > self.limits.size_bytes:
            self._drop_oldest(self._kind_to_give_up())

    def _kind_to_give_up(self) -> Kind:
        for kinds in GIVEN_UP:
            held = [kind for kind in kinds if self._rings[kind]]
            if held:
                return min(held, key=lambda kind: self._rings[kind][0].sequence)
        raise AssertionError("nothing is kept, and its size is above a limit")

    def _drop_oldest(self, kind: Kind) -> None:
        kept = self._rings[kind].popleft()
        self._size_bytes -= kept.cost_bytes
        if self._by_id.get(kept.id) is kept:
            del self._by_id[kept.id]
        if kept.probe is not None:
            of_probe = self._by_probe[kept.probe]
            of_probe.remove(kept)
            if not of_probe:
                del self._by_probe[kept.probe]

    def forget_old(self) -> None:
        """Drops what is older than is kept."""
        before_s = self.now_s() - self.limits.age_s
        for kind, ring in self._rings.items():
            while ring and ring[0].received_s < before_s:
                self._drop_oldest(kind)

    # === what is known ===

    def get(self, id_: str) -> Kept | None:
        """The newest record of a request."""
        return self._by_id.get(id_)

    def of_probe(self, nonce: str) -> list[Kept]:
        """The records of a marked request: one for each time that it passed here."""
        return list(self._by_probe.get(nonce, ()))

    def records(self, kind: Kind | None = None, before: int | None = None) -> Iterator[Kept]:
        """Records, the newest first, as they are at this moment.

        Args:
            kind: of which kind; None for all.
            before: only those that came before the record of this sequence.
        """
        rings = self._rings.values() if kind is None else [self._rings[kind]]
        copies = [list(ring) for ring in rings]
        found = merge(*(reversed(copy) for copy in copies), key=lambda kept: -kept.sequence)
        return (kept for kept in found if before is None or kept.sequence < before)

    async def wait_for(self, id_: str, timeout_s: float) -> Kept | None:
        """The record of a request, which may be on its way.

        Returns:
            None: it did not come in this time, or too many wait already.
        """
        kept = self.get(id_)
        if kept is not None or self._waiter_count >= MAX_WAITERS:
            return kept
        waiter: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(id_, set()).add(waiter)
        self._waiter_count += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            self._waiter_count -= 1
            waiting = self._waiters.get(id_)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiters[id_]


def is_request_id(text: str) -> bool:
    """Whether a text may be the id of a request."""
    return _ID.fullmatch(text) is not None


def _cut(text: str | None) -> str | None:
    """A text of a head, kept once for all records that have it."""
    return None if text is None else sys.intern(text[:MAX_TEXT_CHARACTERS])


def _named(row: Named | None) -> tuple[str | None, str | None]:
    return (None, None) if row is None else (_cut(row.id), _cut(row.name))
