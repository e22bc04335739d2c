# SPDX-License-Identifier: Apache-2.0
"""Is it told who gives up first, and in which order it should be?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.doctor.budget import Given, drawn, first_to_fire, judge, limits
from tests.doctor.probing import aim_at

SERVICE: dict[str, Any] = {"retries": 2, "connect_timeout": 1000, "write_timeout": 5000, "read_timeout": 10_000}


def found(**given: float) -> set[str]:
    """Which findings there are."""
    return {finding.finding for finding in judge(aim_at(80, service=SERVICE), Given(**given))}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, set()),
        ({"client_ms": 60_000, "first_lb_ms": 40_000, "second_lb_ms": 9000}, set()),
        ({"first_lb_ms": 30_000}, {"first_lb_before_gateway"}),
        ({"first_lb_ms": 5000}, {"first_lb_before_gateway"}),
        ({"client_ms": 20_000}, {"client_before_gateway"}),
        ({"client_ms": 35_000, "first_lb_ms": 40_000}, {"client_before_first_lb"}),
        ({"second_lb_ms": 10_000}, {"gateway_before_second_lb"}),
        (
            {"client_ms": 1, "first_lb_ms": 2, "second_lb_ms": 30_000},
            {"first_lb_before_gateway", "client_before_first_lb", "gateway_before_second_lb"},
        ),
    ],
)
def test_each_hop_must_wait_longer_than_the_one_behind_it(given: dict[str, float], expected: set[str]) -> None:
    assert found(**given) == expected


def test_the_cure_of_a_first_load_balancer_that_gives_up_first_leaves_it_the_time() -> None:
    aim = aim_at(80, service=SERVICE)
    (finding,) = judge(aim, Given(first_lb_ms=25_000))
    milliseconds = int(finding.cure[0].rpartition("read_timeout=")[2])
    cured = {**SERVICE, "read_timeout": milliseconds}
    assert judge(aim_at(80, service=cured), Given(first_lb_ms=25_000)) == []
    assert finding.confidence >= 0.8
    assert not finding.is_broken


@pytest.mark.parametrize("limit_ms", [500, 2000, 25_000])
def test_the_other_cure_is_to_try_once(limit_ms: float) -> None:
    (finding,) = judge(aim_at(80, service=SERVICE), Given(first_lb_ms=limit_ms))
    (call,) = [line for line in finding.cure if "retries=0" in line]
    read_ms = int(call.rpartition("read_timeout=")[2]) if "read_timeout=" in call else SERVICE["read_timeout"]
    once = {**SERVICE, "retries": 0, "read_timeout": read_ms}
    assert judge(aim_at(80, service=once), Given(first_lb_ms=limit_ms)) == []


def test_who_gives_up_first_is_marked() -> None:
    table = limits(aim_at(80, service=SERVICE), Given(second_lb_ms=9000))
    first = first_to_fire(table)
    assert first is not None
    assert first.hop == "second_lb"
    (marked,) = [line for line in drawn(table) if "gives up first" in line]
    assert marked.startswith("second load balancer")
    assert sum("30.0 s in all: 3 attempts" in line for line in drawn(table)) == 1
