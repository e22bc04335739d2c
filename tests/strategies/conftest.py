# SPDX-License-Identifier: Apache-2.0
"""Which databases does the one suite run on, and with which tables?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylae.database.dao import Catalogue
from pylae.database.strategies import Strategy
from pylae.database.strategies.off import FILE_NAME, OffStrategy
from pylae.database.strategies.sqlite import SqliteStrategy
from tests.strategies.rows import ENTITIES

CATALOGUE = Catalogue(ENTITIES)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
def open_strategy(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Strategy]]:
    """Opens the test's database, each time as another process would."""
    opened: list[Strategy] = []

    def open_one() -> Strategy:
        assert request.param == "sqlite"
        strategy = SqliteStrategy(tmp_path / "pylae.db", CATALOGUE.tables, clock)
        strategy.open()
        opened.append(strategy)
        return strategy

    yield open_one
    for strategy in opened:
        strategy.close()


@pytest.fixture(params=["sqlite", "off"])
def open_readable(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Strategy]]:
    """The same for what also a gateway without a database does: everything but single writes."""
    opened: list[Strategy] = []

    def open_one() -> Strategy:
        strategy: Strategy = SqliteStrategy(tmp_path / "pylae.db", CATALOGUE.tables, clock)
        if request.param == "off":
            strategy = OffStrategy(tmp_path / FILE_NAME, CATALOGUE.tables, "node", clock=clock)
        strategy.open()
        opened.append(strategy)
        return strategy

    yield open_one
    for strategy in opened:
        strategy.close()


@pytest.fixture
def readable(open_readable: Callable[[], Strategy]) -> Strategy:
    return open_readable()


@pytest.fixture
def strategy(open_strategy: Callable[[], Strategy]) -> Strategy:
    return open_strategy()
