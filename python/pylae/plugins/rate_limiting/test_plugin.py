# SPDX-License-Identifier: Apache-2.0
"""Does rate-limiting count and tell as its facts say?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.rate_limiting.plugin import RateLimiting, window_of
from pylae.sdk import CountersUnavailable, SchemaViolation
from pylae.sdk.host import Limit
from pylae.sdk.testing import MemoryExchange, Outcome, Scene, validated

NAMES = (
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit-minute",
    "x-ratelimit-remaining-minute",
    "retry-after",
)


def told(outcome: Outcome) -> list[Any]:
    return [outcome.headers.get(name) for name in NAMES]


def scene_with(**config: Any) -> Scene:
    return Scene(RateLimiting, config)


def test_headers_tell_what_is_left_and_the_refusal_says_when_to_come_back() -> None:
    with scene_with(minute=2) as scene:
        scene.clock.turn(seconds=24.2)
        assert told(scene.send()) == ["2", "1", "36", "2", "1", None]
        assert told(scene.send()) == ["2", "0", "36", "2", "0", None]
        scene.clock.turn(seconds=1)
        refused = scene.send()
        assert refused.status == 429
        assert refused.json()["message"] == "API rate limit exceeded"
        assert refused.upstream is None
        assert told(refused) == ["2", "0", "35", "2", "0", "35"]


def test_next_window_begins_anew() -> None:
    with scene_with(second=1) as scene:
        assert [scene.send().status, scene.send().status] == [200, 429]
        scene.clock.turn(seconds=1)
        assert scene.send().status == 200


def test_refused_requests_are_not_counted() -> None:
    with scene_with(second=1, minute=3) as scene:
        statuses = []
        for _ in range(4):
            statuses.append(scene.send().status)
            statuses.append(scene.send().status)
            scene.clock.turn(seconds=1)
    assert statuses == [200, 429, 200, 429, 200, 429, 429, 429]


def test_the_tightest_window_is_told_and_the_longer_one_on_a_tie() -> None:
    with scene_with(second=1, minute=10, hour=11) as scene:
        outcome = scene.send()
        assert told(outcome)[:3] == ["1", "0", "1"]
        assert outcome.headers["x-ratelimit-remaining-hour"] == "10"
    with scene_with(second=5, minute=5) as scene:
        assert told(scene.send())[:3] == ["5", "4", "60"]


def test_refusal_leaves_the_other_windows_as_they_are() -> None:
    with scene_with(second=1, minute=10) as scene:
        scene.send()
        outcome = scene.send()
    assert outcome.headers["x-ratelimit-remaining-second"] == "0"
    assert outcome.headers["x-ratelimit-remaining-minute"] == "9"


def test_error_code_and_message_are_the_configured_ones() -> None:
    with scene_with(second=1, error_code=403, error_message="slow down") as scene:
        scene.send()
        outcome = scene.send()
    assert outcome.status == 403
    assert outcome.json()["message"] == "slow down"


def test_hidden_headers_include_retry_after() -> None:
    with scene_with(minute=1, hide_client_headers=True) as scene:
        assert told(scene.send()) == [None] * 6
        refused = scene.send()
        assert refused.status == 429
        assert told(refused) == [None] * 6


def test_fractional_limit_lets_a_request_through_while_anything_is_left() -> None:
    with scene_with(minute=2.5) as scene:
        first = scene.send()
        assert told(first)[:2] == ["2.5", "1.5"]
        assert [scene.send().status for _ in range(3)] == [200, 200, 429]


def _as(consumer: str | None, credential: str | None) -> Any:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate({"id": consumer} if consumer else None, {"id": credential} if credential else None)

    return authenticate


def statuses_of(config: dict[str, Any], *requests: dict[str, Any]) -> list[int]:
    statuses = []
    with Scene(RateLimiting, {"minute": 1, **config}) as scene:
        for request in requests:
            who = request.pop("who", (None, None))
            scene._prepare_exchange = _as(*who)
            statuses.append(scene.send(**request).status)
    return statuses


def test_consumers_count_apart_then_credentials_then_addresses() -> None:
    assert statuses_of(
        {},
        {"who": ("alice", "k1")},
        {"who": ("bob", "k2")},
        {"who": ("alice", "k3")},
        {"who": (None, "k1")},
        {"who": (None, "k1")},
        {"ip": "192.0.2.7"},
        {"ip": "192.0.2.8"},
        {"ip": "192.0.2.7"},
    ) == [200, 200, 429, 200, 429, 200, 200, 429]


def test_credentials_count_apart() -> None:
    config = {"limit_by": "credential"}
    assert statuses_of(config, {"who": ("alice", "k1")}, {"who": ("alice", "k2")}, {"who": ("bob", "k1")}) == [
        200,
        200,
        429,
    ]


def test_addresses_count_apart_whoever_it_is() -> None:
    config = {"limit_by": "ip"}
    assert statuses_of(config, {"who": ("alice", "k1")}, {"who": ("bob", "k2")}, {"ip": "192.0.2.9"}) == [200, 429, 200]


def test_a_service_counts_all_its_clients() -> None:
    assert statuses_of({"limit_by": "service"}, {"ip": "192.0.2.8"}, {"ip": "192.0.2.9"}) == [200, 429]


def test_header_values_count_apart_and_fall_back_to_the_address() -> None:
    config = {"limit_by": "header", "header_name": "X-Tenant"}
    assert statuses_of(
        config,
        {"headers": {"x-tenant": "a"}},
        {"headers": {"x-tenant": "b"}},
        {"headers": {"x-tenant": "a"}, "ip": "192.0.2.9"},
        {},
        {},
    ) == [200, 200, 429, 200, 429]


def test_a_path_counts_all_its_clients_and_other_paths_by_address() -> None:
    config = {"limit_by": "path", "path": "/dear"}
    assert statuses_of(
        config,
        {"target": "/dear"},
        {"target": "/dear?x=1", "ip": "192.0.2.9"},
        {"target": "/cheap"},
        {"target": "/cheap", "ip": "192.0.2.9"},
        {"target": "/cheap"},
    ) == [200, 429, 200, 200, 429]


def test_instances_of_different_routes_count_apart() -> None:
    counters: list[set[bytes]] = []
    for scope in ({"route": "r1"}, {"route": "r2"}, {}):
        with Scene(RateLimiting, {"minute": 1}, scope=scope) as scene:
            scene.send()
            counters.append({identifier for identifier, _, _ in scene.host.counters})
    assert len(set.union(*counters)) == 3


def _unreachable(identifier: bytes, limits: list[Limit], cost: int) -> tuple[bool, list[int]]:
    raise CountersUnavailable("no counters")


def test_unreachable_counters_let_through_unless_told_otherwise() -> None:
    with scene_with(minute=1) as scene:
        scene.host.counters_take = _unreachable
        outcome = scene.send()
        assert outcome.status == 200
        assert outcome.lines == [("error", "failed to get usage: no counters")]
    with scene_with(minute=1, fault_tolerant=False) as scene:
        scene.host.counters_take = _unreachable
        outcome = scene.send()
        assert outcome.status == 500
        assert outcome.json()["message"] == "An unexpected error occurred"


@pytest.mark.parametrize(
    ("period", "now_ms", "window"),
    [
        ("second", 1_767_225_600_999, (1_767_225_600_000, 1_767_225_601_000)),
        ("hour", 1_767_229_199_999, (1_767_225_600_000, 1_767_229_200_000)),
        ("day", 1_767_311_999_999, (1_767_225_600_000, 1_767_312_000_000)),
        # February 2028 has 29 days.
        ("month", 1_835_395_200_000, (1_832_976_000_000, 1_835_481_600_000)),
        # December ends with the year.
        ("month", 1_798_761_599_999, (1_796_083_200_000, 1_798_761_600_000)),
        ("year", 1_798_761_599_999, (1_767_225_600_000, 1_798_761_600_000)),
    ],
)
def test_windows_follow_the_utc_calendar(period: str, now_ms: int, window: tuple[int, int]) -> None:
    assert window_of(period, now_ms) == window


def test_reset_reckons_a_month_as_thirty_days_and_never_less_than_a_second() -> None:
    with scene_with(month=5) as scene:
        assert scene.send().headers["ratelimit-reset"] == "2592000"
        scene.clock.turn(seconds=30 * 86_400 + 5)
        assert scene.send().headers["ratelimit-reset"] == "1"


def test_clock_that_steps_back_counts_in_its_own_window() -> None:
    with scene_with(minute=1) as scene:
        assert scene.send().status == 200
        scene.clock.turn(seconds=-3_600)
        assert scene.send().status == 200


@pytest.mark.parametrize("policy", ["cluster", "redis"])
def test_policies_that_are_not_built_are_refused_by_name(policy: str) -> None:
    with pytest.raises(SchemaViolation) as refused:
        validated(RateLimiting, {"minute": 1, "policy": policy, "redis": {"host": "r"}})
    assert policy in str(refused.value.body()["fields"]["config"]["policy"])


def test_nulls_take_the_defaults() -> None:
    with scene_with(minute=1, limit_by=None, error_code=None, error_message=None) as scene:
        assert scene.send().status == 200
        refused = scene.send()
    assert refused.status == 429
    assert refused.json()["message"] == "API rate limit exceeded"
