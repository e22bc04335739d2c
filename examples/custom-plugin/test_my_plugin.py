# SPDX-License-Identifier: Apache-2.0
"""Does my-plugin keep its opening hours? Shows how a plugin is tested without a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylae.sdk import SchemaViolation
from pylae.sdk.loader import load
from pylae.sdk.testing import Scene

MyPlugin = load(["my-plugin"], [Path(__file__).parent])["my-plugin"]


def test_upstream_is_greeted_and_client_told_the_time() -> None:
    with Scene(MyPlugin, {"greeting": "hello"}) as scene:
        outcome = scene.send("GET", "/shop")
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Greeting") == "hello"
    assert outcome.headers["x-my-plugin-ms"] == "0"


def test_closed_shop_refuses_in_the_clients_language() -> None:
    with Scene(MyPlugin, {"greeting": "hello", "closes_at_hour": 18}) as scene:
        scene.clock.turn(seconds=17 * 3_600)
        assert scene.send().status == 200
        scene.clock.turn(seconds=3_600)
        outcome = scene.send(headers={"Accept": "text/plain"})
    assert outcome.status == 503
    assert outcome.body.startswith(b"closed until 0:00 UTC\n")
    assert outcome.upstream is None


def test_greeting_is_required() -> None:
    with pytest.raises(SchemaViolation):
        Scene(MyPlugin, {})
