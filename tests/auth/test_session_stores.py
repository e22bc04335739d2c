# SPDX-License-Identifier: Apache-2.0
"""Do real servers keep sessions, forget them in time, and is it said which one cannot?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pytest

from pylae.sdk.auth import SystemUnavailable
from pylae.sdk.sessions.postgres_store import PostgresPlace, PostgresStore
from pylae.sdk.sessions.redis_store import RedisPlace, RedisStore
from pylae.sdk.sessions.stores import Store
from tests.support.origin import Origin, silent
from tests.support.ports import free_port
from tests.support.servers import postgres, redis
from tests.support.wait import until

Make = Callable[[int, str], Store]


def make_redis(port: int, password: str = redis.PASSWORD) -> Store:
    return RedisStore(RedisPlace(port=port, password=password, timeout_ms=1_000))


def make_postgres(port: int, password: str = postgres.PASSWORD) -> Store:
    return PostgresStore(PostgresPlace(port=port, user=postgres.USER, password=password, database="postgres", timeout_ms=3_000))


MAKERS: Final[dict[str, Make]] = {"redis": make_redis, "postgres": make_postgres}
NAMES: Final = {"redis": "Redis redis://127.0.0.1:{}/0", "postgres": "PostgreSQL 127.0.0.1:{}/postgres"}
PASSWORDS: Final = {"redis": redis.PASSWORD, "postgres": postgres.PASSWORD}


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """Where each of the servers listens."""
    with redis.RedisServer() as first, postgres.PostgresServer() as second:
        yield {"redis": first.port, "postgres": second.port}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


def _is_over(runner: asyncio.Runner, store: Store, name: str) -> bool:
    return runner.run(store.load(name)) is None


@pytest.mark.parametrize("kind", MAKERS)
def test_session_is_kept_changed_and_deleted(kind: str, ports: dict[str, int], runner: asyncio.Runner) -> None:
    # Two workers, each with connections of its own.
    here, there = (MAKERS[kind](ports[kind], PASSWORDS[kind]) for _ in range(2))
    assert runner.run(here.load("unknown")) is None
    runner.run(here.save("mine", "first", 60, audience="default", subject="alice"))
    assert runner.run(there.load("mine")) == "first"
    runner.run(there.save("mine", "second", 60))
    assert runner.run(here.load("mine")) == "second"
    runner.run(there.delete("mine"))
    assert runner.run(here.load("mine", is_fresh=True)) is None
    runner.run(there.delete("mine"))
    for store in (here, there):
        runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
def test_change_brings_nothing_back(kind: str, ports: dict[str, int], runner: asyncio.Runner) -> None:
    store = MAKERS[kind](ports[kind], PASSWORDS[kind])
    runner.run(store.save("mine", "first", 60))
    runner.run(store.change("mine", "second", 60))
    assert runner.run(store.load("mine")) == "second"
    runner.run(store.delete("mine"))
    runner.run(store.change("mine", "third", 60))
    assert runner.run(store.load("mine")) is None
    runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
def test_session_ends_by_itself(kind: str, ports: dict[str, int], runner: asyncio.Runner) -> None:
    store = MAKERS[kind](ports[kind], PASSWORDS[kind])
    for name, last_s in (("short", 1.0), ("shortened", 60.0), ("long", 60.0)):
        runner.run(store.save(name, name, last_s))
    runner.run(store.change("shortened", "shortened", 1.0))
    runner.run(store.change("gone", "gone", 60.0))
    for name in ("short", "shortened"):
        until(partial(_is_over, runner, store, name), f"`{name}` to end")
    assert runner.run(store.load("long")) == "long"
    assert runner.run(store.load("gone")) is None
    runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("session_id", ["a'; DROP TABLE pylae_sessions; --", "x\r\nFLUSHALL\r\n", "é\x00", "k" * 100_000])
def test_sql_and_command_injection_by_session_id(
    kind: str, session_id: str, ports: dict[str, int], runner: asyncio.Runner
) -> None:
    store = MAKERS[kind](ports[kind], PASSWORDS[kind])
    runner.run(store.save("kept", "kept", 60))
    runner.run(store.save(session_id, "odd", 60))
    assert runner.run(store.load(session_id)) == "odd"
    runner.run(store.delete(session_id))
    assert runner.run(store.load("kept")) == "kept"
    runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
def test_wrong_password_names_the_server_and_tells_no_secret(kind: str, ports: dict[str, int], runner: asyncio.Runner) -> None:
    store = MAKERS[kind](ports[kind], "guessed-by-somebody")
    with pytest.raises(SystemUnavailable) as refused:
        runner.run(store.load("mine"))
    assert NAMES[kind].format(ports[kind]) in str(refused.value)
    assert "guessed" not in str(refused.value) + repr(store) + repr(refused.value)
    runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
def test_server_down(kind: str, runner: asyncio.Runner) -> None:
    port = free_port()
    store = MAKERS[kind](port, PASSWORDS[kind])
    with pytest.raises(SystemUnavailable) as down:
        runner.run(store.save("mine", "text", 60))
    assert NAMES[kind].format(port) in str(down.value)
    runner.run(store.close())


@pytest.mark.parametrize("kind", MAKERS)
def test_server_that_never_answers(kind: str, runner: asyncio.Runner) -> None:
    with Origin(silent) as origin:
        store = MAKERS[kind](origin.port, PASSWORDS[kind])
        with pytest.raises(SystemUnavailable, match="no answer within"):
            runner.run(store.load("mine"))
        runner.run(store.close())


def test_server_that_comes_back(runner: asyncio.Runner) -> None:
    with redis.RedisServer() as server:
        store = make_redis(server.port)
        runner.run(store.save("mine", "text", 60))
        server.restart()
        runner.run(store.save("mine", "again", 60))
        assert runner.run(store.load("mine")) == "again"
        runner.run(store.close())
