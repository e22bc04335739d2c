# SPDX-License-Identifier: Apache-2.0
"""Do two workers share rows that a plugin writes, reads and consumes by call?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import fixtures
from tests.support import raw
from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.wait import until

SETTINGS = {"plugins": "bundled,ttl-ledger", "plugin_path": str(Path(fixtures.__file__).parent)}
NOBODY = "http://127.0.0.1:1"


class Ledger:
    """The plugin's path on a gateway with two workers."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self.gateway = gateway
        self.path = path

    def call(self, method: str, token: str, *lines: str) -> raw.Reply:
        """One request on a connection of its own: whichever worker gets it."""
        data = raw.request(method, self.path, f"X-Token: {token}", *lines)
        return raw.exchange(self.gateway.proxy_port, data, method)

    def by_worker(self, token: str, *lines: str) -> dict[str, raw.Reply]:
        """What each of the two workers says of a token."""
        replies: dict[str, raw.Reply] = {}

        def ask() -> bool:
            reply = self.call("GET", token, *lines)
            replies[reply.header("X-Worker") or ""] = reply
            return len(replies) == 2

        until(ask, "both workers to answer")
        return replies

    def statuses(self, token: str, *lines: str) -> set[int]:
        """The statuses of both workers' answers."""
        return {reply.status for reply in self.by_worker(token, *lines).values()}


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with Gateway(SETTINGS, workers=2) as gateway:
        yield Ledger(gateway, Blueprints(gateway).plugged(NOBODY, "ttl-ledger"))


def test_row_written_by_one_worker_is_read_by_both(ledger: Ledger) -> None:
    token = unique("token")
    stored: dict[str, Any] = json.loads(ledger.call("POST", token, "X-Note: note").body)
    assert ledger.call("POST", token).status == 409
    for reply in ledger.by_worker(token).values():
        assert json.loads(reply.body)["id"] == stored["id"]


def test_row_is_gone_for_both_workers_when_its_time_is_over(ledger: Ledger) -> None:
    token = unique("token")
    assert ledger.call("POST", token, "X-Ttl: 1").status == 201
    until(lambda: ledger.statuses(token) == {404}, "the row to expire")
    assert ledger.statuses(token, "X-Cached: true") == {404}


def test_what_one_worker_writes_and_consumes_the_others_cache_learns(ledger: Ledger) -> None:
    token = unique("token")
    assert ledger.statuses(token, "X-Cached: true") == {404}
    ledger.call("POST", token)
    until(lambda: ledger.statuses(token, "X-Cached: true") == {200}, "both caches to learn of the row")
    assert ledger.call("DELETE", token).status == 200
    until(lambda: ledger.statuses(token, "X-Cached: true") == {404}, "both caches to forget the row")


def test_exactly_one_of_all_who_try_consumes_the_row(ledger: Ledger) -> None:
    token = unique("token")
    ledger.call("POST", token)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ledger.call("DELETE", token), range(16)))
    assert sorted(reply.status for reply in replies) == [200] + [404] * 15
    assert len({reply.header("X-Worker") for reply in replies}) == 2
