# SPDX-License-Identifier: Apache-2.0
"""What does a client notice when its request meets the close of an upstream connection, and what is executed twice?"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.racing import Asker, How, Lanes, Mishap, Plan, Try
from tests.support.raw import request
from tests.support.servers.nginx import Nginx
from tests.support.wait import POLL_S

# Without a database hundreds of Services come in one call.
SETTINGS = {"database": "off"}
WORKERS = 2

# Read by whoever writes docs/performance.md; bench/results is not kept in the repository.
RESULTS = Path(__file__).parents[2] / "bench" / "results" / "keepalive_races.jsonl"

LANES = 200
TRIES_EACH = 5
# Nightly: ten times as many tries, each time in lanes of their own, so that nothing is known of a target beforehand.
ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])])

RANDOM_IDLE_S = (0.15, 0.4)
# A request travels well under a millisecond: within this of the planned close the two may cross.
CROSSING_S = 0.002
# How a target may close: by FIN, by RST, or its sending side alone.
HOWS: tuple[How, ...] = ("fin", "rst", "half")


def random_idle_s() -> float:
    return random.uniform(*RANDOM_IDLE_S)


def lead(gateway: Gateway, lanes: Lanes) -> None:
    """A Service and a Route for each lane. No Service retries: what is sent again is sent again for the connection's sake."""
    services = [
        {
            "name": f"lane-{lane.target.port}",
            "url": f"http://{lane.target.address}:{lane.target.port}/",
            "retries": 0,
            "routes": [{"name": f"lane-{lane.target.port}", "paths": [f"/lane-{lane.number}"]}],
        }
        for lane in lanes.all
    ]
    gateway.admin.post("/config", {"_format_version": "3.0", "services": services})
    gateway.settle(10)
    lanes.lead(gateway.proxy_port, [f"/lane-{lane.number}" for lane in lanes.all])


def through(
    gateway: Gateway, plan: Plan, work: Callable[[Lanes], Coroutine[Any, Any, list[Try]]], count: int = LANES
) -> tuple[Lanes, list[Try]]:
    """Run the work in lanes through the gateway."""

    async def run() -> tuple[Lanes, list[Try]]:
        async with Lanes(count, plan) as lanes:
            lead(gateway, lanes)
            return lanes, await work(lanes)

    return asyncio.run(run())


def bad(tries: list[Try], *good: int) -> list[Try]:
    """Tries with another status than these."""
    return [one for one in tries if one.status not in good]


def crossed(tries: list[Try]) -> int:
    """How many were sent so close to the close that they may have crossed it."""
    return sum(abs(one.gap_s) <= CROSSING_S for one in tries)


def executions(lanes: Lanes, tries: list[Try]) -> set[int]:
    """How often these requests were executed."""
    return {lanes.ledger.executed[one.name] for one in tries}


# === idle closes at moments that nobody can know beforehand ===


@ROUNDS
@pytest.mark.parametrize("spread_ms", [5, 1])
def test_a_get_that_meets_an_idle_close_is_answered(gateway: Gateway, spread_ms: int, rounds: int) -> None:
    met = 0
    for _ in range(rounds):
        _, tries = through(gateway, Plan(random_idle_s, HOWS), lambda lanes: lanes.race(TRIES_EACH, spread_ms / 1000))
        assert bad(tries, 200) == []
        met += crossed(tries)
    assert met >= rounds * LANES * TRIES_EACH // 20, f"only {met} requests came close enough to the close"


@ROUNDS
@pytest.mark.parametrize("spread_ms", [5, 1])
def test_a_post_that_meets_an_idle_close_is_executed_at_most_once(gateway: Gateway, spread_ms: int, rounds: int) -> None:
    met = 0
    for _ in range(rounds):
        lanes, tries = through(gateway, Plan(random_idle_s, HOWS), lambda lanes: lanes.race(TRIES_EACH, spread_ms / 1000, "POST"))
        assert bad(tries, 200, 502) == []
        assert executions(lanes, [one for one in tries if one.status == 200]) == {1}
        assert executions(lanes, [one for one in tries if one.status == 502]) <= {0, 1}
        met += crossed(tries)
    assert met >= rounds * LANES * TRIES_EACH // 20, f"only {met} requests came close enough to the close"


@ROUNDS
def test_a_post_with_an_idempotency_key_that_meets_an_idle_close_is_answered(gateway: Gateway, rounds: int) -> None:
    for _ in range(rounds):
        _, tries = through(
            gateway, Plan(random_idle_s, HOWS), lambda lanes: lanes.race(TRIES_EACH, 0.003, "POST", "Idempotency-Key: {id}")
        )
        assert bad(tries, 200) == []


# === rules of the target that can be learnt ===


def test_an_idle_timeout_that_was_met_is_not_met_again(gateway: Gateway) -> None:
    async def work(lanes: Lanes) -> list[Try]:
        for _ in range(3):
            await lanes.until_closed()
        return await lanes.race(4, 0.005, "POST")

    lanes, tries = through(gateway, Plan(lambda: 0.4, ("half",)), work, 60)
    assert bad(tries, 200) == []
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"
    assert len(gateway.error_log.containing("keepalive.learned")) >= len(lanes.all)


def test_an_announced_idle_timeout_is_never_met(gateway: Gateway) -> None:
    plan = Plan(lambda: 1.0, ("half",), lines=("Keep-Alive: timeout=1",))
    lanes, tries = through(gateway, plan, lambda lanes: lanes.race(1, 0.005, "POST"))
    assert bad(tries, 200) == []
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"


def test_a_number_of_requests_that_was_met_is_not_exceeded(gateway: Gateway) -> None:
    answers = 5

    async def work(lanes: Lanes) -> list[Try]:
        before = await lanes.everywhere(3 * answers)
        assert bad(before, 200) == []
        return await lanes.everywhere(3 * answers, "POST")

    plan = Plan(answers=answers, closing_delay_s=lambda: random.uniform(0, 0.001))
    lanes, tries = through(gateway, plan, work, 40)
    assert bad(tries, 200) == []
    assert executions(lanes, tries) == {1}


# === what teaches nothing ===


def caps_learned(gateway: Gateway, lanes: Lanes) -> list[str]:
    """Lines that say that one of these targets closes after a number of requests."""
    named = [f"address={lane.target.address}:{lane.target.port}:" for lane in lanes.all]
    return [line for line in gateway.error_log.containing("requests without saying so") if any(name in line for name in named)]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_idle_closes_are_not_taken_for_a_number_of_requests(gateway: Gateway, how: How) -> None:
    """Every connection carries one request and is closed at its own time: by a reset, which leaves no trace of when it came."""

    async def work(lanes: Lanes) -> list[Try]:
        for _ in range(3):
            await lanes.until_closed()
        for lane in lanes.all:
            lane.target.plan = Plan()
            lane.target.connections = 0
        return await lanes.everywhere(5)

    lanes, tries = through(gateway, Plan(random_idle_s, (how,)), work, 10)
    assert bad(tries, 200) == []
    assert caps_learned(gateway, lanes) == []
    assert [lane.target.connections for lane in lanes.all] == [1] * 10, "connections are not used again"


def test_a_restart_under_load_is_not_taken_for_a_number_of_requests(gateway: Gateway) -> None:
    """All connections of a server end in one moment, right after their first answer."""
    clients = 8

    async def run() -> tuple[Lanes, list[int]]:
        async with Lanes(1, Plan(answers=1, closing_delay_s=lambda: 0.005)) as lanes:
            lead(gateway, lanes)
            (lane,) = lanes.all
            many = [Asker(gateway.proxy_port) for _ in range(clients)]
            statuses = await asyncio.gather(*(client.ask(request("GET", f"{lane.path}/first")) for client in many))
            lane.target.plan = Plan()
            while lane.target.open_connections:
                await asyncio.sleep(POLL_S)
            lane.target.connections = 0
            for client in many:
                statuses += [await client.ask(request("GET", f"{lane.path}/then")) for _ in range(5)]
                client.close()
            return lanes, statuses

    lanes, statuses = asyncio.run(run())
    assert set(statuses) == {200}
    assert caps_learned(gateway, lanes) == []
    assert lanes.all[0].target.connections <= WORKERS, "connections are not used again"


# === connections that end in the middle of a request ===

TAKEN = pytest.mark.parametrize("after_bytes", [1, 60, None], ids=["first-byte", "in-the-head", "whole"])
ENDS = pytest.mark.parametrize("how", ["fin", "rst"])
FEW = 10


def meeting(gateway: Gateway, method: str, mishap: Mishap, *lines: str) -> tuple[set[int], set[int], set[int]]:
    """Requests that each meet the mishap on a used connection: their statuses, on how many connections they were seen,
    and how often they were executed."""
    lanes, tries = through(gateway, Plan(), lambda lanes: lanes.everywhere(2, method, *lines, mishap=mishap), FEW)
    return {one.status for one in tries}, {lanes.ledger.seen[one.name] for one in tries}, executions(lanes, tries)


@ENDS
@TAKEN
def test_a_get_whose_connection_ends_is_sent_once_more(gateway: Gateway, how: How, after_bytes: int | None) -> None:
    times = {2} if after_bytes is None else {1}
    assert meeting(gateway, "GET", Mishap(how, after_bytes)) == ({200}, times, times)


@ENDS
@TAKEN
def test_a_post_of_which_bytes_were_taken_is_not_sent_again(gateway: Gateway, how: How, after_bytes: int | None) -> None:
    times = {1} if after_bytes is None else {0}
    assert meeting(gateway, "POST", Mishap(how, after_bytes)) == ({502}, times, times)


@pytest.mark.parametrize("after_bytes", [1, 60], ids=["first-byte", "in-the-head"])
def test_a_post_that_is_executed_behind_a_half_close_is_not_sent_again(gateway: Gateway, after_bytes: int) -> None:
    assert meeting(gateway, "POST", Mishap("half", after_bytes)) == ({502}, {1}, {1})


@ENDS
def test_a_post_with_an_idempotency_key_is_sent_once_more(gateway: Gateway, how: How) -> None:
    assert meeting(gateway, "POST", Mishap(how), "Idempotency-Key: {id}") == ({200}, {2}, {2})


@pytest.mark.parametrize("method", ["PATCH", "LOCK"])
def test_no_other_method_that_may_act_twice_is_sent_again(gateway: Gateway, method: str) -> None:
    assert meeting(gateway, method, Mishap("fin")) == ({502}, {1}, {1})


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_method_that_may_be_repeated_is_sent_once_more(gateway: Gateway, method: str) -> None:
    assert meeting(gateway, method, Mishap("fin")) == ({200}, {2}, {2})


# === for comparison ===


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_how_a_stock_proxy_fares(method: str) -> None:
    """What docs/performance.md compares with; nothing is asked of nginx but that it answers most of it."""

    async def run(round_number: int) -> list[Try]:
        async with Lanes(LANES, Plan(random_idle_s)) as lanes:
            port = free_port()
            pools = "".join(
                f"upstream lane{lane.number} {{ server {lane.target.address}:{lane.target.port}; keepalive 8; }}\n"
                for lane in lanes.all
            )
            locations = "".join(
                f"location /lane-{lane.number}/ {{ proxy_pass http://lane{lane.number}/; proxy_http_version 1.1;"
                " proxy_set_header Connection ''; }\n"
                for lane in lanes.all
            )
            with Nginx(f"{pools} server {{ listen 127.0.0.1:{port};\n{locations} }}", [port]):
                lanes.lead(port, [f"/lane-{lane.number}" for lane in lanes.all])
                return await lanes.race(TRIES_EACH, 0.005, method)

    tries = [one for number in range(10) for one in asyncio.run(run(number))]
    failed = bad(tries, 200)
    assert len(failed) < len(tries) // 2
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"proxy": "nginx", "method": method, "tries": len(tries), "failed": len(failed)}) + "\n")
    print(f"nginx, {method} timed to the idle close ± 5 ms: {len(failed)} of {len(tries)} failed")
