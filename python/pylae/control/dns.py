# SPDX-License-Identifier: Apache-2.0
"""What do the workers know of names, and since when?

Each worker asks name servers for itself and reports what it then knows. Nothing is asked here: an answer is as old as
its worker says. What is kept is bounded, and ends with the worker that reported it, or when it reports it no more.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from pylae.control.line import Log, WorkerState

DNS_CHANNEL: Final = "dns"
MAX_NAMES: Final = 20_000
"""Twice what a worker caches by default; beyond it the name that was longest not reported goes."""
MAX_RECORDS: Final = 200_000
"""Of all names and workers together; beyond it names go likewise."""
REPORTED_WITHIN_S: Final = 180.0
"""A worker reports every name in use once a minute."""
MAX_ITEM_BYTES: Final = 64 * 1024
MAX_SHOWN_BYTES: Final = 100
"""Of an item that cannot be read, in the log."""
_MS: Final = 1000.0

State = Literal["fresh", "stale", "expired", "once", "failed"]

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Record(msgspec.Struct, frozen=True):
    """One address of a name."""

    address: Text
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """Of SRV, where it goes before any other."""
    weight: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """Of SRV."""
    name: Text | None = None
    """The host that SRV named."""

    def __post_init__(self) -> None:
        """Refuses what is no address."""
        ipaddress.ip_address(self.address)


class Report(msgspec.Struct, frozen=True):
    """What one worker says of one name; times are milliseconds of the epoch."""

    name: Name
    kind: Text
    """`A`, `AAAA`, `SRV`, `hosts`, or `none`: there is no answer."""
    records: list[Record] = []
    ttl_s: float | None = None
    found_ms: float | None = None
    expires_ms: float | None = None
    """From then on it is asked for anew."""
    stale_until_ms: float | None = None
    """Until then it may be used while it is asked for anew."""
    is_stale: bool = False
    error: Text | None = None
    """Why the last question was not answered."""
    server: Text | None = None
    tried: list[Text] = []
    took_ms: float | None = None

    @property
    def is_forgotten(self) -> bool:
        """Whether the worker says that it knows nothing of the name any more."""
        return not self.records and self.error is None

    @property
    def is_once(self) -> bool:
        """Whether the answer is good for the request it was asked for, and for no other."""
        return self.ttl_s == 0 and bool(self.records)


@dataclass(slots=True)
class Heard:
    """What a worker last said of a name, and how often it said something new."""

    report: Report
    worker: WorkerState
    heard_s: float
    query_count: int = 0
    failure_count: int = 0
    stale_count: int = 0

    def count(self, before: Heard | None) -> None:
        """Counts on from what was heard before."""
        if before is not None:
            self.query_count, self.failure_count = before.query_count, before.failure_count
            self.stale_count = before.stale_count
        old, new = None if before is None else before.report, self.report
        if old is None or (old.found_ms, old.error) != (new.found_ms, new.error):
            self.query_count += 1
            self.failure_count += new.error is not None
        if new.is_stale and (old is None or not old.is_stale):
            self.stale_count += 1

    def state(self, now_s: float) -> State:
        """How far the answer can be relied on.

        Returns:
            `fresh`; `stale`: its time is over, it is used while it is asked for anew; `expired`: that time is over as well,
            and nobody asked since; `once`: its TTL is 0; `failed`: there is no answer.
        """
        report = self.report
        if not report.records:
            return "failed"
        if report.is_once:
            return "once"
        now_ms = now_s * _MS
        if report.stale_until_ms is not None and now_ms >= max(report.stale_until_ms, report.expires_ms or 0):
            return "expired"
        is_over = report.expires_ms is not None and now_ms >= report.expires_ms
        return "stale" if report.is_stale or is_over else "fresh"

    def rank(self, now_s: float) -> tuple[bool, float, float]:
        """Greater, the more it is worth: that one worker's question failed makes no other's answer void."""
        is_usable = self.state(now_s) in ("fresh", "stale", "once")
        return is_usable, self.report.found_ms or 0, self.heard_s

    def stale_for_s(self, now_s: float) -> float:
        """For how long the answer's time has been over; 0: it is not."""
        report = self.report
        ends_ms = [] if report.expires_ms is None else [report.expires_ms]
        if report.found_ms is not None and report.ttl_s is not None:
            # A question that failed may have put off the next one.
            ends_ms.append(report.found_ms + report.ttl_s * _MS)
        return max(now_s - min(ends_ms) / _MS, 0.0) if ends_ms else 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a name."""

    name: str
    newest: Heard
    """The youngest answer that may be used; if there is none, what was found last."""
    heard: Sequence[Heard] = field(repr=False)
    """Of every worker that reported it, in order of generation and index; the newest is one of them."""


class Dns:
    """What workers last reported of names.

    Args:
        workers: those that are connected; what others reported is not shown.
        log: takes lines for the error log.
        now_s: the time of the epoch.
        max_records: of all names and workers together; beyond it the name that was longest not reported goes.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[WorkerState]],
        log: Log,
        now_s: Callable[[], float] = time.time,
        max_records: int = MAX_RECORDS,
    ) -> None:
        self._max_records = max_records
        self._workers = workers
        self._log = log
        self.now_s = now_s
        # By name, the one that was longest not reported first; then by worker.
        self._names: dict[str, dict[tuple[int, int, int], Heard]] = {}
        self._record_count = 0
        self._decode = msgspec.json.Decoder(Report).decode
        self.listeners: list[Callable[[str, Heard], None]] = []
        """Told of every name that a worker reported something of."""
        self.unreadable_count = 0
        self.lost_count = 0

    def __repr__(self) -> str:
        return f"<dns names={len(self._names)}>"

    # === what is reported ===

    def take(self, worker: WorkerState | None, items: Iterable[bytes], lost_count: int = 0) -> None:
        """Keeps what a worker reports.

        Args:
            worker: who; None says nothing that could be told apart.
            items: JSON of a `Report` each.
            lost_count: reports that the worker could not send.
        """
        self.lost_count += lost_count
        now_s = self.now_s()
        for item in items:
            report = self._read(item)
            if report is None or worker is None:
                continue
            self._keep(Heard(report, worker, now_s))
        self._forget_old(now_s)

    def _read(self, item: bytes) -> Report | None:
        try:
            if len(item) > MAX_ITEM_BYTES:
                raise ValueError(f"larger than {MAX_ITEM_BYTES} bytes")
            return self._decode(item)
        except (ValueError, TypeError) as error:
            self.unreadable_count += 1
            if self.unreadable_count == 1:
                self._log("error", f"a report of a name cannot be read: {error}: {_shown(item)}; further ones are only counted")
            return None

    def _keep(self, heard: Heard) -> None:
        name = normal(heard.report.name)
        # Put in anew, so that the names stand in the order in which they were reported.
        of_name = self._take_out(name)
        key = _key(heard.worker)
        before = of_name.pop(key, None)
        if heard.report.is_forgotten:
            if of_name:
                self._put_in(name, of_name)
            return
        heard.count(before)
        of_name[key] = heard
        for other in [other for other, its in of_name.items() if heard.heard_s - its.heard_s > REPORTED_WITHIN_S]:
            del of_name[other]
        self._put_in(name, of_name)
        while len(self._names) > MAX_NAMES or (self._record_count > self._max_records and len(self._names) > 1):
            self._take_out(next(iter(self._names)))
        for tell in self.listeners:
            tell(name, heard)

    def _put_in(self, name: str, of_name: dict[tuple[int, int, int], Heard]) -> None:
        self._names[name] = of_name
        self._record_count += _record_count(of_name)

    def _take_out(self, name: str) -> dict[tuple[int, int, int], Heard]:
        of_name = self._names.pop(name, {})
        self._record_count -= _record_count(of_name)
        return of_name

    def _forget_old(self, now_s: float) -> None:
        while self._names:
            name = next(iter(self._names))
            if any(now_s - heard.heard_s <= REPORTED_WITHIN_S for heard in self._names[name].values()):
                return
            self._take_out(name)

    # === what is known ===

    def known(self, name: str) -> Known | None:
        """What connected workers know of a name; None: none of them asked for it, or not lately.

        With a dot at its end a name is another: no search domain goes before it. But who asks for one may mean the other.
        """
        live, now_s, exact = self._live(), self.now_s(), normal(name)
        other = exact[:-1] if exact.endswith(".") else f"{exact}."
        return self._known(exact, live, now_s) or self._known(other, live, now_s)

    def every(self, after: str = "") -> Iterator[Known]:
        """What is known of every name that follows this one, in order."""
        live, now_s = self._live(), self.now_s()
        found = (self._known(name, live, now_s) for name in sorted(name for name in self._names if name > after))
        return (known for known in found if known is not None)

    def _known(self, name: str, live: set[tuple[int, int, int]], now_s: float) -> Known | None:
        heard = _seen(self._names.get(name, {}), live, now_s)
        if not heard:
            return None
        heard.sort(key=lambda one: _key(one.worker))
        return Known(name, max(heard, key=lambda one: one.rank(now_s)), heard)

    def _live(self) -> set[tuple[int, int, int]]:
        return {_key(worker) for worker in self._workers()}


def normal(name: str) -> str:
    """A name as it is kept: lower case, and with the dot at its end if it has one."""
    return name.lower()


def _record_count(of_name: dict[tuple[int, int, int], Heard]) -> int:
    return sum(len(heard.report.records) for heard in of_name.values())


def _key(worker: WorkerState) -> tuple[int, int, int]:
    return worker.generation, worker.index, worker.pid


def _seen(of_name: dict[tuple[int, int, int], Heard], live: set[tuple[int, int, int]], now_s: float) -> list[Heard]:
    """What workers that are still there have lately said of a name."""
    return [heard for key, heard in of_name.items() if key in live and now_s - heard.heard_s <= REPORTED_WITHIN_S]


def _shown(item: object) -> str:
    return repr(item[:MAX_SHOWN_BYTES] if isinstance(item, bytes) else type(item).__name__)
