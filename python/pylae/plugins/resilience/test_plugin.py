# SPDX-License-Identifier: Apache-2.0
"""What may be configured of resilience, and what is said of what may not?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.resilience.config import Config
from pylae.plugins.resilience.plugin import Resilience
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import validated


def refusal(config: dict[str, Any]) -> Any:
    with pytest.raises(SchemaViolation) as caught:
        validated(Resilience, config)
    return caught.value.fields


def test_all_of_it_is_off_unless_it_is_asked_for() -> None:
    assert validated(Resilience, {}) == dict.fromkeys(Config.fields)


def test_a_part_that_is_asked_for_has_defaults() -> None:
    given = {"retry_budget": {}, "circuit_breaker": {"failures": 5}, "hedge": {"after_ms": 100}}
    config = Config.load(validated(Resilience, given))
    assert config.retry_budget is not None
    assert config.circuit_breaker is not None
    assert config.hedge is not None
    assert (config.retry_budget.percent, config.retry_budget.least_per_s, config.retry_budget.window_s) == (20, 1, 10)
    assert (config.circuit_breaker.open_s, config.circuit_breaker.half_open_requests) == (10, 1)
    assert list(config.circuit_breaker.statuses) == [502, 503, 504]
    assert (config.hedge.most, list(config.hedge.methods)) == (1, ["GET", "HEAD"])
    assert config.queue is None


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"circuit_breaker": {}}, "at least one of these fields must be non-empty: 'failures', 'failure_percent'"),
        ({"per_try_timeout": {}}, "at least one of these fields must be non-empty: 'connect_ms', 'first_byte_ms'"),
        ({"hedge": {}}, "required field missing"),
        ({"hedge": {"after_ms": 1, "methods": ["POST"]}}, "expected one of: GET, HEAD, OPTIONS"),
        ({"hedge": {"after_ms": 1, "methods": []}}, "length must be at least 1"),
        ({"hedge": {"after_ms": 0}}, "value should be between 1 and 600000"),
        ({"queue": {"most_connections": 0}}, "value should be between 1 and 100000"),
        ({"retry_budget": {"percent": 101}}, "value should be between 0 and 100"),
        ({"outlier_ejection": {"success_rate_percent": 0}}, "value should be between 1 and 100"),
        ({"slow_start": {"window_s": 0}}, "value should be between 1 and 3600"),
        (
            {"hedge": {"after_ms": 200}, "per_try_timeout": {"first_byte_ms": 200}},
            "hedge.after_ms must be below per_try_timeout.first_byte_ms, or no hedge is ever made",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], error: str) -> None:
    assert error in str(refusal(config))
