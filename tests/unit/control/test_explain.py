# SPDX-License-Identifier: Apache-2.0
"""Are records of requests kept within bounds, found again, and lost in the right order?"""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest

from pylae.control.explain import (
    GIVEN_UP,
    ITEMS_AT_ONCE,
    KINDS,
    MAX_COUNTED,
    MAX_RECORD_BYTES,
    MAX_WAITERS,
    MAX_WAITING_BYTES,
    OTHER,
    RECORD_COSTS_BYTES,
    Explain,
    Kind,
    Limits,
    is_request_id,
)
from tests.unit.control.on_loop import on_loop

LETTERS = {kind: chr(letter) for letter, kind in KINDS.items()}
BEGUN_S = 1_800_000_000.0


def request_id(number: int) -> str:
    return f"{number:032x}"


def item(number: int, kind: Kind = "failed", **fields: Any) -> bytes:
    return f"{request_id(number)} {LETTERS[kind]} {json.dumps(fields)}".encode()


class Rig:
    """A store under a clock that a test turns; what is streamed is looked at at once."""

    def __init__(self, **limits: Any) -> None:
        self.now_s = BEGUN_S
        self.lines: list[str] = []
        self.explain = Explain(self._log, Limits(**limits), lambda: self.now_s)

    def _log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    async def take(self, *items: bytes, lost_count: int = 0) -> None:
        self.explain.take(None, items, lost_count)
        self.explain.look()

    async def keep(self, number: int, kind: Kind = "failed", **fields: Any) -> None:
        await self.take(item(number, kind, **fields))

    def numbers(self, kind: Kind | None = None) -> list[int]:
        return [int(kept.id, 16) for kept in self.explain.records(kind)]


@on_loop
async def test_a_record_is_found_by_its_id_and_told_newest_first() -> None:
    rig = Rig()
    await rig.keep(1, status=502, fault="reset", route={"id": "r", "name": "a"}, service={"id": "s", "name": None})
    await rig.keep(2, "sample", status=200)
    await rig.keep(3, "failed", status=504)
    kept = rig.explain.get(request_id(1))
    assert kept is not None
    assert (kept.kind, kept.status, kept.cause, kept.route, kept.service) == ("failed", 502, "reset", ("r", "a"), ("s", None))
    assert kept.record() == {
        "request_id": request_id(1),
        "kind": "failed",
        "status": 502,
        "fault": "reset",
        "route": {"id": "r", "name": "a"},
        "service": {"id": "s", "name": None},
    }
    assert rig.numbers() == [3, 2, 1]
    assert rig.numbers("failed") == [3, 1]
    assert [kept.sequence for kept in rig.explain.records(before=3)] == [2, 1]
    assert rig.explain.get(request_id(4)) is None


@on_loop
async def test_each_kind_has_room_of_its_own() -> None:
    rig = Rig(count=2)
    for number in range(10):
        await rig.keep(number, "sample")
    await rig.keep(10, "failed")
    assert rig.numbers() == [10, 9, 8]
    assert rig.explain.get(request_id(7)) is None
    assert rig.explain.received == {"sample": 10, "failed": 1}


@on_loop
async def test_what_is_older_than_is_kept_goes() -> None:
    rig = Rig(age_s=60)
    await rig.keep(1)
    rig.now_s += 60
    await rig.keep(2, "sample")
    assert rig.numbers() == [2, 1]
    rig.now_s += 1
    rig.explain.forget_old()
    assert rig.numbers() == [2]
    rig.now_s += 60
    rig.explain.forget_old()
    assert (rig.numbers(), rig.explain.size_bytes) == ([], 0)


@on_loop
async def test_samples_go_first_and_failures_last_when_memory_runs_out() -> None:
    one_costs = len(item(0, pad="x" * 100)) - 35 + RECORD_COSTS_BYTES
    rig = Rig(size_bytes=6 * one_costs)
    kinds: list[Kind] = ["failed", "refused", "recovered", "probe", "sample", "sample"]
    for number, kind in enumerate(kinds):
        await rig.keep(number, kind, pad="x" * 100)
    assert rig.numbers() == [5, 4, 3, 2, 1, 0]
    gone = []
    for number in range(6, 12):
        before = set(rig.numbers())
        await rig.keep(number, "failed", pad="x" * 100)
        gone += sorted((before | {number}) - set(rig.numbers()))
        assert rig.explain.size_bytes <= 6 * one_costs
    assert gone == [4, 5, 1, 2, 3, 0]
    # There is no room for what is worth less.
    await rig.keep(12, "sample", pad="x" * 100)
    await rig.keep(13, "recovered", pad="x" * 100)
    assert rig.numbers() == [11, 10, 9, 8, 7, 6]
    assert sorted(kind for kinds in GIVEN_UP for kind in kinds) == sorted(KINDS.values())


@pytest.mark.parametrize("limits", [{"count": 0}, {"size_bytes": 0}])
@on_loop
async def test_nothing_is_kept_where_nothing_is_to_be(limits: dict[str, int]) -> None:
    rig = Rig(**limits)
    for number, kind in enumerate(KINDS.values()):
        await rig.keep(number, kind, probe="ab")
    assert (rig.numbers(), rig.explain.size_bytes, rig.explain.of_probe("ab")) == ([], 0, [])


@on_loop
async def test_a_marked_request_is_found_each_time_it_passed() -> None:
    rig = Rig(count=2)
    await rig.keep(1, "probe", probe="00ff")
    await rig.keep(2, "probe", probe="00ff")
    await rig.keep(3, "failed", probe="00ff")
    assert [int(kept.id, 16) for kept in rig.explain.of_probe("00ff")] == [1, 2, 3]
    await rig.keep(4, "probe", probe="other")
    assert [int(kept.id, 16) for kept in rig.explain.of_probe("00ff")] == [2, 3]
    await rig.keep(5, "probe")
    await rig.keep(6, "probe")
    assert [int(kept.id, 16) for kept in rig.explain.of_probe("00ff")] == [3]
    assert rig.explain.of_probe("other") == []


@on_loop
async def test_of_two_records_with_one_id_the_newer_is_shown() -> None:
    rig = Rig(count=1)
    await rig.keep(1, "sample", status=200)
    await rig.keep(1, "failed", status=502)
    await rig.keep(2, "sample")
    kept = rig.explain.get(request_id(1))
    assert kept is not None
    assert kept.status == 502
    await rig.keep(3, "failed")
    assert rig.explain.get(request_id(1)) is None


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\x00",
        b"F {}",
        request_id(1).encode(),
        request_id(1).encode() + b" F",
        request_id(1).encode() + b" F ",
        request_id(1).encode() + b" F []",
        request_id(1).encode() + b" F {",
        request_id(1).encode() + b" F {} {}",
        request_id(1).encode() + b" X {}",
        request_id(1).upper().replace("0", "A").encode() + b" F {}",
        request_id(1)[1:].encode() + b" F {}",
        request_id(1).encode() + b' F {"status":"502"}',
        request_id(1).encode() + b' F {"status":1e400}',
        request_id(1).encode() + b' F {"route":[]}',
        request_id(1).encode() + b' F {"fault":"' + b"x" * 5000 + b'"}',
        request_id(1).encode() + b' F {"detail":"\xff\xfe"}',
        request_id(1).encode() + b' F {"detail":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        request_id(1).encode() + b' F {"detail":"' + b"x" * MAX_RECORD_BYTES + b'"}',
    ],
    ids=range(19),
)
@on_loop
async def test_rubbish_is_counted_and_dropped(rubbish: bytes) -> None:
    rig = Rig()
    await rig.take(rubbish, rubbish, item(2), lost_count=3)
    assert rig.numbers() == [2]
    assert (rig.explain.unreadable_count, rig.explain.lost_count) == (2, 3)
    assert len(rig.lines) == 1
    assert "cannot be read" in rig.lines[0]
    assert len(rig.lines[0]) < 1000


@on_loop
async def test_what_only_looks_like_json_is_shown_without_its_fields() -> None:
    rig = Rig()
    await rig.take(request_id(1).encode() + b' F {"detail":"\\ud800"}')
    kept = rig.explain.get(request_id(1))
    assert kept is None or kept.record()["request_id"] == request_id(1)


@on_loop
async def test_memory_is_bounded_whatever_comes() -> None:
    size_bytes = 1024 * 1024
    rig = Rig(size_bytes=size_bytes)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3000):
            text = f"{number}\U0001f600" * 200
            kind = tuple(KINDS.values())[number % 5]
            await rig.keep(number, kind, fault=text, probe=text, route={"id": text, "name": text}, service={"name": text})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rig.explain.size_bytes <= size_bytes
    assert after - before < 4 * size_bytes
    assert len(rig.numbers()) > 10


@on_loop
async def test_small_records_cost_no_more_than_is_charged() -> None:
    rig = Rig(count=2000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            await rig.keep(number, "sample", status=200, route={"id": "r", "name": "a"}, probe=f"{number:016x}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < rig.explain.size_bytes * 1.5


@on_loop
async def test_many_items_let_the_lines_have_their_turn() -> None:
    rig = Rig()
    rig.explain.take(None, [item(number) for number in range(3 * ITEMS_AT_ONCE)])
    assert rig.numbers() == []
    counts = []
    while len(rig.numbers()) < 3 * ITEMS_AT_ONCE:
        await asyncio.sleep(0)
        counts.append(len(rig.numbers()))
    assert counts == [ITEMS_AT_ONCE, 2 * ITEMS_AT_ONCE, 3 * ITEMS_AT_ONCE]


@on_loop
async def test_what_cannot_wait_is_lost_and_counted() -> None:
    rig = Rig()
    big = item(1, pad="x" * (MAX_RECORD_BYTES - 100))
    count = MAX_WAITING_BYTES // len(big) + 10
    rig.explain.take(None, [big] * count)
    assert rig.explain.lost_count == count - MAX_WAITING_BYTES // len(big)
    rig.explain.look()
    rig.explain.take(None, [item(2)])
    rig.explain.look()
    assert rig.numbers()[0] == 2


@on_loop
async def test_a_record_that_is_on_its_way_is_waited_for() -> None:
    rig = Rig()
    first, second = (asyncio.ensure_future(rig.explain.wait_for(request_id(1), 60)) for _ in range(2))
    await asyncio.sleep(0)
    rig.explain.take(None, [item(2), item(1, status=502)])
    for kept in await asyncio.gather(first, second):
        assert kept is not None
        assert kept.status == 502
    # What is there is not waited for.
    assert (await rig.explain.wait_for(request_id(2), 60)) is not None


@on_loop
async def test_a_record_that_does_not_come_is_given_up() -> None:
    rig = Rig()
    assert await rig.explain.wait_for(request_id(1), 0) is None
    waiting = asyncio.ensure_future(rig.explain.wait_for(request_id(1), 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await rig.keep(1)
    assert rig.numbers() == [1]


@on_loop
async def test_few_wait_at_once() -> None:
    rig = Rig()
    waiting = [asyncio.ensure_future(rig.explain.wait_for(request_id(number), 60)) for number in range(MAX_WAITERS)]
    await asyncio.sleep(0)
    assert await rig.explain.wait_for(request_id(MAX_WAITERS), 60) is None
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    last = asyncio.ensure_future(rig.explain.wait_for(request_id(MAX_WAITERS), 60))
    await asyncio.sleep(0)
    for number in range(MAX_WAITERS + 1):
        await rig.keep(number)
    assert None not in await asyncio.gather(*waiting[1:], last)


@on_loop
async def test_failures_are_counted_by_cause_side_and_service() -> None:
    rig = Rig()
    for number in range(3):
        await rig.keep(number, fault="reset", side="upstream", service={"id": "s", "name": "orders"})
    await rig.keep(3, fault="no_route", side="client")
    await rig.keep(4, "refused", fault="no_route", side="client")
    assert rig.explain.failures == {("reset", "upstream", "orders"): 3, ("no_route", "client", ""): 1}


@on_loop
async def test_labels_are_bounded() -> None:
    rig = Rig(count=1)
    for number in range(MAX_COUNTED + 5):
        await rig.keep(number, fault="reset", side="upstream", service={"name": f"s{number}"})
    assert len(rig.explain.failures) == MAX_COUNTED + 1
    assert rig.explain.failures["reset", "upstream", OTHER] == 5
    for number in range(3 * MAX_COUNTED):
        await rig.keep(number, fault=f"f{number}", side="upstream")
    assert len(rig.explain.failures) <= 2 * MAX_COUNTED + 1
    assert rig.explain.failures.total() == MAX_COUNTED + 5 + 3 * MAX_COUNTED


@on_loop
async def test_listeners_hear_of_each_record() -> None:
    rig = Rig()
    heard: list[tuple[str, float | None]] = []
    rig.explain.listeners.append(lambda kept, head: heard.append((kept.id, head.duration_ms)))
    await rig.keep(1, duration_ms=1.5)
    assert heard == [(request_id(1), 1.5)]


def test_what_may_be_the_id_of_a_request() -> None:
    assert is_request_id("0123456789abcdef0123456789ABCDEF")
    for text in ("", "0", "g" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"):
        assert not is_request_id(text)
