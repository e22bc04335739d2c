# SPDX-License-Identifier: Apache-2.0
"""Does a look-up keep what it may keep, and forget what has changed?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from pylae.sdk import MISSING, CallFailed, Entities, Lookup
from pylae.sdk import entities as entities_module


class Control:
    """A control process whose answers a test can hold back."""

    def __init__(self) -> None:
        self.rows: dict[Any, dict[str, Any]] = {}
        self.calls: list[dict[str, Any]] = []
        self.failures: list[CallFailed] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, operation: str, args: bytes, timeout_ms: int) -> bytes:
        arguments = msgspec.msgpack.decode(args)
        self.calls.append(arguments)
        row = self.rows.get(arguments["value"])
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return msgspec.msgpack.encode(row)


class Stage:
    """A look-up of keys with their consumers, over a control process."""

    def __init__(self) -> None:
        self.control = Control()
        self.now_ms = 1_000_000
        self.entities = Entities(self.control.call, lambda: self.now_ms)
        self.lookup: Lookup = self.entities.lookup("keys", "key", {"consumer": "consumers"})
        self.control.rows["k"] = {"id": "k-id", "key": "k", "consumer": {"id": "c-id", "username": "alice"}}

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        asyncio.run(test)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_row_and_absence_are_kept(stage: Stage) -> None:
    async def test() -> None:
        assert stage.lookup.cached("k") is MISSING
        row = await stage.lookup.get("k")
        assert stage.lookup.cached("k") is row
        assert await stage.lookup.get("absent") is None
        assert stage.lookup.cached("absent") is None
        assert [call["value"] for call in stage.control.calls] == ["k", "absent"]
        assert stage.control.calls[0] == {"table": "keys", "field": "key", "value": "k", "with": ["consumer"]}

    stage.run(test())


def test_many_who_ask_make_one_call_and_a_leaver_cancels_nobody(stage: Stage) -> None:
    async def test() -> None:
        stage.control.gate.clear()
        tasks = [asyncio.create_task(stage.lookup.get("k")) for _ in range(10)]
        while not stage.control.calls:
            await asyncio.sleep(0)
        tasks[0].cancel()
        stage.control.gate.set()
        rows = await asyncio.gather(*tasks[1:])
        assert {row["id"] for row in rows if row is not None} == {"k-id"}
        assert len(stage.control.calls) == 1

    stage.run(test())


@pytest.mark.parametrize(
    "change",
    [("keys", "key", "k"), ("keys", "id", "k-id"), ("consumers", "id", "c-id")],
)
def test_row_is_forgotten_when_it_or_a_joined_row_changes(stage: Stage, change: tuple[str, str, str]) -> None:
    async def test() -> None:
        await stage.lookup.get("k")
        stage.entities.invalidate([("keys", "key", "other"), ("consumers", "id", "other")])
        assert stage.lookup.cached("k") is not MISSING
        stage.entities.invalidate([change])
        assert stage.lookup.cached("k") is MISSING

    stage.run(test())


def test_absence_is_forgotten_when_the_row_is_written(stage: Stage) -> None:
    async def test() -> None:
        await stage.lookup.get("new")
        stage.entities.invalidate([("keys", "key", "new")])
        assert stage.lookup.cached("new") is MISSING

    stage.run(test())


def test_everything_is_forgotten_when_control_cannot_say_what_changed(stage: Stage) -> None:
    async def test() -> None:
        await stage.lookup.get("k")
        await stage.lookup.get("absent")
        stage.entities.invalidate(None)
        assert stage.lookup.cached("k") is MISSING
        assert stage.lookup.cached("absent") is MISSING

    stage.run(test())


@pytest.mark.parametrize("change", [[("keys", "key", "k")], [("consumers", "id", "c-id")], None])
def test_answer_older_than_a_change_is_used_once_and_not_kept(stage: Stage, change: Any) -> None:
    async def test() -> None:
        stage.control.gate.clear()
        task = asyncio.create_task(stage.lookup.get("k"))
        while not stage.control.calls:
            await asyncio.sleep(0)
        stage.entities.invalidate(change)
        stage.control.gate.set()
        assert await task is not None
        assert stage.lookup.cached("k") is MISSING
        await stage.lookup.get("k")
        assert stage.lookup.cached("k") is not MISSING

    stage.run(test())


def test_row_with_a_ttl_is_forgotten_on_time(stage: Stage) -> None:
    async def test() -> None:
        stage.control.rows["k"]["ttl"] = 2.5
        await stage.lookup.get("k")
        stage.now_ms += 2_499
        assert stage.lookup.cached("k") is not MISSING
        stage.now_ms += 1
        assert stage.lookup.cached("k") is MISSING

    stage.run(test())


def test_guessed_keys_never_push_out_real_ones(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities_module, "MAX_ABSENT", 4)

    async def test() -> None:
        await stage.lookup.get("k")
        for number in range(20):
            await stage.lookup.get(f"guess {number}")
        assert stage.lookup.cached("k") is not MISSING
        assert stage.lookup.cached("guess 19") is None
        assert stage.lookup.cached("guess 0") is MISSING
        await stage.lookup.get("x" * 1_000)
        assert stage.lookup.cached("x" * 1_000) is MISSING

    stage.run(test())


def test_rows_are_bounded_and_the_least_used_one_goes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities_module, "MAX_ROWS", 2)

    async def test() -> None:
        for key in ("a", "b", "c"):
            stage.control.rows[key] = {"id": f"{key}-id", "key": key, "consumer": {"id": "c-id"}}
        await stage.lookup.get("a")
        await stage.lookup.get("b")
        stage.lookup.cached("a")
        await stage.lookup.get("c")
        assert stage.lookup.cached("b") is MISSING
        assert stage.lookup.cached("a") is not MISSING
        stage.entities.invalidate([("consumers", "id", "c-id")])
        assert repr(stage.lookup) == "<lookup keys.key rows=0 absent=0>"

    stage.run(test())


def test_reading_is_repeated_while_control_restarts(stage: Stage) -> None:
    async def test() -> None:
        stage.control.failures = [CallFailed("unavailable", "line lost"), CallFailed("unavailable", "not connected")]
        assert await stage.lookup.get("k") is not None
        assert len(stage.control.calls) == 3

    stage.run(test())


def test_refusal_of_control_reaches_everyone_who_asked_and_is_not_kept(stage: Stage) -> None:
    async def test() -> None:
        stage.control.failures = [CallFailed("invalid", "no such table")]
        answers = await asyncio.gather(*(stage.lookup.get("k") for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [CallFailed] * 3
        assert await stage.lookup.get("k") is not None

    stage.run(test())
