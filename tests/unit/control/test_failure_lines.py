# SPDX-License-Identifier: Apache-2.0
"""Does the error log tell why a request failed, in one line that nobody can forge, and not too often?"""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import Any

import pytest

from pylae.control.explain import Explain, Kept, Kind
from pylae.control.failure_lines import LINES_AT_ONCE, LINES_PER_S, FailureLines, line_of
from pylae.control.log import LEVELS
from pylae.explain import facts
from pylae.explain.verdict import Verdict, verdict_of
from tests.unit.control.on_loop import on_loop
from tests.unit.control.test_explain import item, request_id

ADMIN = "http://localhost:8001"
FORM = re.compile(
    r'request failed: status=\d+ cause=\S+ hop=\S+ phase=\S+ confidence=[01]\.\d\d summary="[^"]*" evidence="[^"]*" '
    r'cure="[^"]*" request_id="[0-9a-f]{32}"'
)
"""What programs that read logs may rely on."""


class Rig:
    """Lines of records, under a clock that a test turns."""

    def __init__(self, lowest: str = "notice") -> None:
        self.lines: list[tuple[str, str]] = []
        self.now_s = 100.0
        self.lowest = lowest
        self.explain = Explain(self._log)
        self.failure_lines = FailureLines(
            self._log,
            lambda level: LEVELS.index(level) >= LEVELS.index(self.lowest),
            lambda kept: verdict_of(facts.read(kept.record()), admin_url=ADMIN),
            lambda: self.now_s,
        )
        self.explain.listeners.append(self.failure_lines.take)

    def _log(self, level: str, text: str) -> None:
        self.lines.append((level, text))

    async def keep(self, number: int, kind: Kind = "failed", **fields: Any) -> None:
        self.explain.take(None, [item(number, kind, **fields)])
        self.explain.look()
        while self.failure_lines.waiting_count:
            await asyncio.sleep(0)


@on_loop
async def test_a_failed_request_is_one_line_with_its_verdict() -> None:
    rig = Rig()
    await rig.keep(1, status=502, fault="connect_refused", side="upstream")
    ((level, line),) = rig.lines
    assert level == "warn"
    assert FORM.fullmatch(line), line
    assert line.startswith("request failed: status=502 cause=connect_refused hop=")
    fields = dict(part.split("=", 1) for part in shlex.split(line.removeprefix("request failed: ")))
    assert fields["request_id"] == request_id(1)
    assert fields["summary"]


@pytest.mark.parametrize("kind", ["refused", "recovered", "probe", "sample"])
def test_other_requests_are_no_lines_at_the_normal_level(kind: Kind) -> None:
    @on_loop
    async def test() -> None:
        rig = Rig()
        await rig.keep(1, kind, status=404, fault="no_route", side="client")
        assert rig.lines == []

    test()


@on_loop
async def test_who_wants_to_know_sees_refused_requests_too() -> None:
    rig = Rig("info")
    await rig.keep(1, "refused", status=404, fault="no_route", side="client")
    await rig.keep(2, "recovered", status=200)
    ((level, line),) = rig.lines
    assert level == "info"
    assert line.startswith("request refused: status=404 cause=no_route hop=")


@on_loop
async def test_many_failures_are_fifty_lines_a_second_and_one_that_counts() -> None:
    rig = Rig()
    for number in range(LINES_PER_S + 30):
        service = {"id": "s", "name": 'a"b' if number % 3 else "other"}
        await rig.keep(number, status=502, fault="reset", side="upstream", service=service)
    assert len(rig.lines) == LINES_PER_S
    rig.now_s += 1
    await rig.keep(1000, status=404, fault="no_route", side="client")
    assert len(rig.lines) == LINES_PER_S + 2
    level, line = rig.lines[LINES_PER_S]
    assert (level, line) == (
        "warn",
        r'request failed: 30 more within a second: 20 cause=reset service="a\x22b", 10 cause=reset service="other"; hint: GET '
        "/explain",
    )


@on_loop
async def test_what_was_not_told_is_told_though_nothing_more_comes() -> None:
    rig = Rig()
    for number in range(LINES_PER_S + 2000):
        await rig.keep(number, status=502, fault=f"f{number}", side="upstream")
    rig.failure_lines.tell_untold()
    assert len(rig.lines) == LINES_PER_S + 1
    _, line = rig.lines[-1]
    assert line.startswith("request failed: 2000 more within a second: ")
    assert len(line.encode()) < 2048
    rig.failure_lines.tell_untold()
    assert len(rig.lines) == LINES_PER_S + 1


@on_loop
async def test_no_text_can_end_a_line_or_make_it_long() -> None:
    rig = Rig()
    nasty = 'x" y=\\"z\n[emerg] \u202e\u2028\x1b[31m\U0001f600\x00' * 40
    verdict = Verdict(
        hop=nasty,
        phase=nasty,
        cause=nasty,
        finding="",
        summary=nasty,
        confidence=0.5,
        evidence=[nasty] * 50,
        cure=[nasty] * 50,
        probes=[],
        written_by=None,
        flags=verdict_of(facts.read({}), admin_url=ADMIN).flags,
    )
    await rig.keep(1, status=502, fault="reset")
    kept = rig.explain.get(request_id(1))
    assert kept is not None
    line = line_of(kept, verdict)
    assert FORM.fullmatch(line), line
    assert len(line.encode()) <= 2048 - len("2026/11/25 02:00:00 [warn] 1234567#0: \n")
    assert "\n" not in line
    assert "\u202e" not in line
    assert line.count('"') == 8
    assert line.endswith(f'request_id="{request_id(1)}"')


@on_loop
async def test_a_record_without_anything_is_a_line_too() -> None:
    rig = Rig()
    await rig.keep(1)
    ((_, line),) = rig.lines
    assert line.startswith("request failed: status=- ")


@on_loop
async def test_a_mistake_in_a_verdict_hides_no_failure() -> None:
    rig = Rig()

    def fail(kept: Kept) -> Verdict:
        raise ValueError(f"of {kept.id}\n")

    rig.explain.listeners.clear()
    rig.failure_lines = FailureLines(lambda level, text: rig.lines.append((level, text)), lambda level: True, fail)
    rig.explain.listeners.append(rig.failure_lines.take)
    await rig.keep(1, status=502, fault="reset")
    ((level, line),) = rig.lines
    assert level == "warn"
    assert line == (
        f'request failed: status=502 cause=reset summary="no verdict: ValueError: of {request_id(1)}\\x0A" '
        f'request_id="{request_id(1)}"'
    )


@on_loop
async def test_lines_are_made_a_few_at_once_and_none_is_left_at_the_end() -> None:
    rig = Rig()
    rig.explain.take(None, [item(number, status=502, fault="reset") for number in range(LINES_PER_S)])
    rig.explain.look()
    assert rig.lines == []
    await asyncio.sleep(0)
    assert len(rig.lines) == LINES_AT_ONCE
    rig.failure_lines.tell_all()
    assert len(rig.lines) == LINES_PER_S
    await asyncio.sleep(0)
    assert [line.rpartition("=")[2].strip('"') for _, line in rig.lines] == [request_id(number) for number in range(LINES_PER_S)]


@on_loop
async def test_refused_requests_take_no_line_from_failed_ones() -> None:
    rig = Rig("info")
    for number in range(LINES_PER_S + 1):
        await rig.keep(number, "refused", status=404, fault="no_route", side="client")
    await rig.keep(1000, status=502, fault="reset")
    assert len(rig.lines) == LINES_PER_S + 1
    assert rig.lines[-1][0] == "warn"
