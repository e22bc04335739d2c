# SPDX-License-Identifier: Apache-2.0
"""Who is slowed down, and when not?"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pylae.plugins.auth_damping.plugin import AuthDamping
from pylae.plugins.basic_auth.entities import hashed
from pylae.plugins.basic_auth.plugin import BasicAuth
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Chain, validated

ALICE: dict[str, Any] = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "created_at": 1}
OWNED = {"consumer": {"id": ALICE["id"]}}
ROWS: dict[str, Any] = {
    "consumers": [ALICE],
    "basicauth_credentials": [{"id": "c1", "username": "al", "password": hashed("right", ALICE["id"]), **OWNED}],
    "keyauth_credentials": [{"id": "c2", "key": "right", **OWNED}],
}


def chain(plugin: Any = BasicAuth, **config: Any) -> Chain:
    return Chain([(AuthDamping, config), (plugin, {})], rows=ROWS)


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def test_brute_force_from_one_address() -> None:
    with chain(failures_per_ip=3, failures_per_name=None) as walk:
        answers = [walk.send(headers=basic(f"user{number}", "x")) for number in range(5)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
        assert answers[-1].json()["message"] == "Too many failed attempts"
        assert walk.send(headers=basic("al", "right")).status == 429
        assert walk.send(headers=basic("al", "right"), ip="192.0.2.2").status == 200


def test_brute_force_of_one_name_from_many_addresses() -> None:
    with chain(failures_per_name=3, failures_per_ip=None) as walk:
        statuses = [walk.send(headers=basic("al", f"guess{n}"), ip=f"192.0.2.{n}").status for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert walk.send(headers=basic("al", "right"), ip="192.0.2.99").status == 429, "a lock tells nothing of the secret"
        assert walk.send(headers=basic("other", "x"), ip="192.0.2.99").status == 401


def test_spellings_of_one_name_are_one_name() -> None:
    with chain(failures_per_name=3, failures_per_ip=None) as walk:
        for n, name in enumerate(("Al", "aL", " AL ")):
            assert walk.send(headers=basic(name, f"guess{n}"), ip=f"192.0.2.{n}").status == 401
        assert walk.send(headers=basic("al", "right"), ip="192.0.2.99").status == 429


def test_a_window_ends() -> None:
    with chain(failures_per_ip=1, window=60) as walk:
        walk.send(headers=basic("al", "wrong"))
        locked = walk.send(headers=basic("al", "right"))
        assert locked.status == 429
        assert 1 <= int(str(locked.headers["retry-after"])) <= 60
        walk.clock.turn(seconds=60)
        assert walk.send(headers=basic("al", "right")).status == 200


def test_what_passes_and_what_has_no_credentials_counts_for_nothing() -> None:
    with chain(failures_per_ip=2, failures_per_name=2) as walk:
        assert [walk.send(headers=basic("al", "right")).status for _ in range(5)] == [200] * 5
        assert [walk.send().status for _ in range(5)] == [401] * 5
        assert walk.send(headers=basic("al", "right")).status == 200


def test_keys_are_counted_by_address() -> None:
    with chain(KeyAuth, failures_per_ip=2) as walk:
        assert [walk.send(headers={"apikey": f"guess{n}"}).status for n in range(3)] == [401, 401, 429]


def test_nothing_of_a_name_is_kept() -> None:
    with chain() as walk:
        walk.send(headers=basic("somebody", "wrong"))
        assert walk.host.counters
        assert not any(b"somebody" in identifier for identifier, _, _ in walk.host.counters)


@pytest.mark.parametrize("config", [{"window": 0}, {"failures_per_ip": 0}, {"failures_per_name": -1}])
def test_limits_are_at_least_one(config: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        validated(AuthDamping, config)
