# SPDX-License-Identifier: Apache-2.0
"""Does a plugin write, read and consume its own entities?"""

from __future__ import annotations

from pylae.sdk.testing import Scene
from tests.plugins.fixtures.ttl_ledger import TtlLedger


def test_entry_is_written_once_and_read_until_its_time_is_over() -> None:
    with Scene(TtlLedger) as scene:
        assert scene.send("POST", headers={"X-Token": "t", "X-Ttl": "5", "X-Note": "n"}).status == 201
        assert scene.send("GET", headers={"X-Token": "t"}).json()["worker_note"] == "n"
        assert scene.send("GET", headers={"X-Token": "t", "X-Cached": "true"}).status == 200
        scene.clock.turn(seconds=5)
        assert scene.send("GET", headers={"X-Token": "t"}).status == 404
        assert scene.send("GET", headers={"X-Token": "t", "X-Cached": "true"}).status == 404


def test_exactly_one_consumer_gets_the_entry() -> None:
    with Scene(TtlLedger) as scene:
        scene.send("POST", headers={"X-Token": "t"})
        outcomes = scene.send_together([{"method": "DELETE", "headers": {"X-Token": "t"}}] * 5)
    assert sorted(outcome.status for outcome in outcomes) == [200, 404, 404, 404, 404]


def test_written_entry_is_seen_through_the_cache_that_knew_it_absent() -> None:
    with Scene(TtlLedger) as scene:
        cached = {"X-Token": "t", "X-Cached": "true"}
        assert scene.send("GET", headers=cached).status == 404
        scene.send("POST", headers={"X-Token": "t"})
        assert scene.send("GET", headers=cached).status == 200
        scene.send("DELETE", headers={"X-Token": "t"})
        assert scene.send("GET", headers=cached).status == 404
