# SPDX-License-Identifier: Apache-2.0
"""What does a client notice when its request meets the close of an upstream connection, and what is executed twice?"""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
from collections.abc import Callable, Coroutine
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificate, self_signed
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.racing import ANSWER_WITHIN_S, Asker, How, Lane, Lanes, Mishap, Plan, Try, moment
from tests.support.raw import request
from tests.support.servers.nginx import Nginx
from tests.support.wait import POLL_S, until

# Without a database hundreds of Services come in one call.
SETTINGS = {"database": "off"}
WORKERS = 2

# Read by whoever writes docs/performance.md; bench/results is not kept in the repository.
RESULTS = Path(__file__).parents[2] / "bench" / "results" / "keepalive_races.jsonl"

LANES = 200
TRIES_EACH = 3
# Nightly: ten times as many tries, each time in lanes of their own, so that nothing is known of a target beforehand.
ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])])

RANDOM_IDLE_S = (0.15, 0.4)
# A request travels well under a millisecond: within this of the planned close the two may cross.
CROSSING_S = 0.002
# Without this word a POST takes no connection that lay idle for a second, as it may on a loaded machine.
STAYS = "Keep-Alive: timeout=60"
# How a target may close: by FIN, by RST, or its sending side alone.
HOWS: tuple[How, ...] = ("fin", "rst", "half")


def random_idle_s() -> float:
    return random.uniform(*RANDOM_IDLE_S)


def lead(gateway: Gateway, *groups: Lanes) -> None:
    """A Service and a Route for each lane. No Service retries: what is sent again is sent again for the connection's sake."""
    services = []
    for lanes in groups:
        paths = []
        for lane in lanes.all:
            name = f"lane-{lane.target.address}-{lane.target.port}"
            paths.append(f"/{name}")
            route = {"name": name, "paths": [paths[-1]]}
            service: dict[str, Any] = {"name": name, "url": lane.target.url, "retries": 0, "routes": [route]}
            services.append({**service, "tls_verify": False} if lane.target.tls else service)
        lanes.lead(gateway.proxy_port, paths)
    gateway.admin.post("/config", {"_format_version": "3.0", "services": services})
    gateway.settle(10)


def through(
    gateway: Gateway,
    plan: Plan,
    work: Callable[[Lanes], Coroutine[Any, Any, list[Try]]],
    count: int = LANES,
    certificate: Certificate | None = None,
) -> tuple[Lanes, list[Try]]:
    """Run the work in lanes through the gateway."""

    async def run() -> tuple[Lanes, list[Try]]:
        async with Lanes(count, plan, certificate.server_context() if certificate else None) as lanes:
            lead(gateway, lanes)
            return lanes, await work(lanes)

    return asyncio.run(run())


def bad(tries: list[Try], *good: int) -> list[Try]:
    """Tries with another status than these."""
    return [one for one in tries if one.status not in good]


def crossed(tries: list[Try]) -> int:
    """How many were sent so close to the close that they may have crossed it."""
    return sum(abs(one.gap_s) <= CROSSING_S for one in tries)


def check_that_failures_crossed(tries: list[Try]) -> None:
    """Whatever failed was sent when it may have crossed the close: not after it, nor longer before it than a request travels.

    How long that is on this machine, loaded as it is, the others tell: one of twenty takes longer.
    """
    took_s = [one.took_s for one in tries if one.status == 200]
    travels_s = max(CROSSING_S, statistics.quantiles(took_s, n=20)[-1])
    failed = bad(tries, 200)
    assert [one for one in failed if one.gap_s > CROSSING_S] == [], "they were sent when the connection was closed"
    early = [one for one in failed if one.gap_s < -travels_s]
    assert len(early) <= len(tries) // 20, f"a request takes {travels_s:.4f} s, and these were sent sooner: {early}"


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
        check_that_failures_crossed(tries)
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("keys"), "127.0.0.1")


def test_a_get_that_meets_an_idle_close_of_tls_is_answered(gateway: Gateway, certificate: Certificate) -> None:
    """`notify`: only TLS says that the connection ended."""
    plan = Plan(random_idle_s, ("fin", "rst", "notify"))
    _, tries = through(gateway, plan, lambda lanes: lanes.race(TRIES_EACH, 0.003), 50, certificate)
    assert bad(tries, 200) == []
    assert crossed(tries) >= len(tries) // 20


@pytest.mark.parametrize("how", ["fin", "rst", "notify"])
def test_a_close_of_tls_is_noticed_before_a_post(gateway: Gateway, certificate: Certificate, how: How) -> None:
    """A loaded machine needs a moment to tell us."""

    async def work(lanes: Lanes) -> list[Try]:
        await lanes.everywhere(1)
        for lane in lanes.all:
            assert lane.target.closes_at_s
            await moment(lane.target.closes_at_s + 0.05)
        return await lanes.everywhere(1, "POST")

    lanes, tries = through(gateway, Plan(lambda: 0.2, (how,), lines=(STAYS,)), work, 10, certificate)
    assert bad(tries, 200) == []
    assert executions(lanes, tries) == {1}
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"


# === what may not be sent twice ===


def test_a_post_meets_no_close_after_more_than_a_second(gateway: Gateway) -> None:
    """It takes no connection of an unknown server that lay idle for so long: not at the first meeting either."""
    plan = Plan(lambda: random.uniform(1.3, 1.4), HOWS)
    lanes, tries = through(gateway, plan, lambda lanes: lanes.race(1, 0.003, "POST"), 60)
    assert bad(tries, 200) == []
    assert crossed(tries) >= len(tries) // 20
    assert executions(lanes, tries) == {1}
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"


def test_a_post_takes_an_idle_connection_only_where_the_server_keeps_it(gateway: Gateway) -> None:
    async def run() -> tuple[list[Try], list[int]]:
        async with Lanes(3, Plan()) as unknown, Lanes(3, Plan(lines=(STAYS,))) as said:
            lead(gateway, unknown, said)
            every = unknown.all + said.all
            await asyncio.gather(*(lane.warm() for lane in every))
            await moment(asyncio.get_running_loop().time() + 1.2)
            tries = await unknown.everywhere(1, "POST") + await said.everywhere(1, "POST")
            return tries, [lane.target.connections for lane in every]

    tries, connections = asyncio.run(run())
    assert bad(tries, 200) == []
    assert connections == [2] * 3 + [1] * 3


# === rules of the target that can be learnt ===


def test_an_idle_timeout_that_was_met_is_not_met_again(gateway: Gateway) -> None:
    async def work(lanes: Lanes) -> list[Try]:
        for _ in range(3):
            await lanes.until_closed()
        return await lanes.race(2, 0.005, "POST")

    lanes, tries = through(gateway, Plan(lambda: 0.4, ("half",)), work, 60)
    assert bad(tries, 200) == []
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"
    # What was learned is said at the next look at the pool.
    until(lambda: len(learned(gateway, lanes)) >= len(lanes.all), "each target's time to be said")


def test_an_announced_idle_timeout_is_never_met(gateway: Gateway) -> None:
    plan = Plan(lambda: 1.0, ("half",), lines=("Keep-Alive: timeout=1",))
    lanes, tries = through(gateway, plan, lambda lanes: lanes.race(1, 0.005, "POST"))
    assert bad(tries, 200) == []
    assert sum(lane.target.late for lane in lanes.all) == 0, "a request was sent after the close"


def test_a_number_of_requests_that_was_met_is_not_exceeded(gateway: Gateway) -> None:
    answers = 5

    async def work(lanes: Lanes) -> list[Try]:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while len(learned(gateway, lanes)) < len(lanes.all):
                assert bad(await lanes.everywhere(answers), 200) == []
        return await lanes.everywhere(3 * answers, "POST")

    plan = Plan(answers=answers, closing_delay_s=lambda: random.uniform(0, 0.001))
    lanes, tries = through(gateway, plan, work, 40)
    assert bad(tries, 200) == []
    assert executions(lanes, tries) == {1}


def learned(gateway: Gateway, lanes: Lanes) -> list[str]:
    """Lines that say that something was learned of one of these targets."""
    named = [f"address={lane.target.address}:{lane.target.port}:" for lane in lanes.all]
    return [line for line in gateway.error_log.containing("keepalive.learned") if any(name in line for name in named)]


# It shows at once that it closes after every answer. A worker says what it learned in the order in which it learned it.
SHOWS_AT_ONCE = Plan(answers=1)


async def until_said(gateway: Gateway, clients: list[Asker], markers: Lanes) -> None:
    """Wait until all that the workers of these clients have learned so far is in the log: something that came later is."""

    async def one(client: Asker, marker: Lane) -> None:
        said = f"keepalive.learned address={marker.target.address}:{marker.target.port}:"
        marker.client = client
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while not gateway.error_log.containing(said):
                await marker.ask()
                await asyncio.sleep(POLL_S)

    await asyncio.gather(*(one(client, marker) for client, marker in zip(clients, markers.all, strict=True)))


def test_an_idle_timeout_is_learned_from_three_closes(gateway: Gateway) -> None:
    count, idle_s = 3, 0.25

    async def run() -> None:
        async with Lanes(count, Plan(lambda: idle_s)) as lanes, Lanes(count, SHOWS_AT_ONCE) as markers:
            lead(gateway, lanes, markers)
            for _ in range(2):
                await lanes.until_closed()
            for lane in lanes.all:
                await lane.warm()  # so that the second of them is noticed
                lane.target.end_all()
            await until_said(gateway, [lane.client for lane in lanes.all if lane.client], markers)
            assert learned(gateway, lanes) == [], "two closes show nothing"
            await lanes.until_closed()
            for lane in lanes.all:
                (line,) = gateway.error_log.wait_for(f"keepalive.learned address={lane.target.address}:{lane.target.port}:")
                found = re.search(r"\[notice\].* closes connections that lay idle for ([0-9.]+) s; ours are used for", line)
                assert found, line
                # A loaded machine closes later; no machine sooner, but for the way of the answer.
                assert 0.95 * idle_s <= float(found[1]) <= 2 * idle_s, line

    asyncio.run(run())


# === what teaches nothing ===


def test_closes_at_all_times_teach_nothing(gateway: Gateway) -> None:
    """Every connection carries one request and is closed at its own time; some by a reset, which leaves no trace of when it
    came."""
    count = 10

    async def run() -> tuple[Lanes, list[Try]]:
        async with Lanes(count, Plan()) as lanes, Lanes(count, SHOWS_AT_ONCE) as markers:
            lead(gateway, lanes, markers)
            for lane in lanes.all:
                # Times of which no two are alike.
                lane.target.plan = Plan(cycle([0.6, 0.2, 0.4]).__next__, ("rst" if lane.number % 2 else "fin",))
            for _ in range(3):
                await lanes.until_closed()
            for lane in lanes.all:
                lane.target.plan = Plan()
                lane.target.connections = 0
            tries = await lanes.everywhere(5)
            await until_said(gateway, [lane.client for lane in lanes.all if lane.client], markers)
            return lanes, tries

    lanes, tries = asyncio.run(run())
    assert bad(tries, 200) == []
    assert learned(gateway, lanes) == []
    assert [lane.target.connections for lane in lanes.all] == [1] * count, "connections are not used again"


CLIENTS = 8


async def ask_all(clients: list[Asker], path: str) -> set[int]:
    """One request of each client, all at once; the statuses."""
    return set(await asyncio.gather(*(client.ask(request("GET", path)) for client in clients)))


async def until_gone(lane: Lane) -> None:
    """Wait until no connection of the lane's target is open."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while lane.target.open_connections:
            await asyncio.sleep(POLL_S)


def test_a_restart_under_load_is_not_taken_for_a_number_of_requests(gateway: Gateway) -> None:
    """All connections of a server end in one moment, right after their first answer."""

    async def run() -> None:
        async with Lanes(1, Plan()) as lanes, Lanes(CLIENTS, SHOWS_AT_ONCE) as markers:
            lead(gateway, lanes, markers)
            (lane,) = lanes.all
            clients = [Asker(gateway.proxy_port) for _ in range(CLIENTS)]
            assert await ask_all(clients, f"{lane.path}/first") == {200}
            lane.target.end_all()
            lane.target.connections = 0
            for client in clients:
                assert [await client.ask(request("GET", f"{lane.path}/then")) for _ in range(5)] == [200] * 5
            await until_said(gateway, clients, markers)
            assert learned(gateway, lanes) == []
            assert lane.target.connections <= WORKERS, "connections are not used again"
            for client in clients:
                client.close()

    asyncio.run(run())


def test_restarts_are_not_taken_for_an_idle_timeout(gateway: Gateway) -> None:
    """Three times all connections end, after the same idleness; but others were open that had been idle for longer."""
    idle_s = 0.25

    async def run() -> None:
        async with (
            Lanes(1, Plan()) as lanes,
            Lanes(CLIENTS, Plan(lines=("Keep-Alive: timeout=2",))) as clocks,
            Lanes(CLIENTS, SHOWS_AT_ONCE) as markers,
        ):
            lead(gateway, lanes, clocks, markers)
            (lane,) = lanes.all
            loop = asyncio.get_running_loop()
            clients = [Asker(gateway.proxy_port) for _ in range(CLIENTS)]
            assert await ask_all(clients, f"{lane.path}/first") == {200}
            # Every worker closes these by 1.8 s, as it looks through its pool: so it has seen the others idle, at least twice.
            for client, clock in zip(clients, clocks.all, strict=True):
                clock.client = client
                await clock.warm()
            await asyncio.gather(*map(until_gone, clocks.all))
            for number in range(3):
                assert await ask_all(clients, f"{lane.path}/{number}") == {200}
                await moment(loop.time() + idle_s)
                lane.target.end_all()
            # So that the third of them is noticed.
            assert await ask_all(clients, f"{lane.path}/last") == {200}
            await until_said(gateway, clients, markers)
            assert learned(gateway, lanes) == []
            for client in clients:
                client.close()

    asyncio.run(run())


# === connections that end in the middle of a request ===

TAKEN = pytest.mark.parametrize("after_bytes", [1, 60, None], ids=["first-byte", "in-the-head", "whole"])
ENDS = pytest.mark.parametrize("how", ["fin", "rst"])
FEW = 10


def meeting(gateway: Gateway, method: str, mishap: Mishap, *lines: str) -> tuple[set[int], set[int], set[int]]:
    """Requests that each meet the mishap on a used connection: their statuses, on how many connections they were seen,
    and how often they were executed."""
    plan = Plan(lines=(STAYS,))
    lanes, tries = through(gateway, plan, lambda lanes: lanes.everywhere(2, method, *lines, mishap=mishap), FEW)
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
