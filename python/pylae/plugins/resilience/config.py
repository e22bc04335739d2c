# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for resilience?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.schema import at_least_one_of
from pylae.sdk import Record, field, kinds

REPEATABLE_METHODS = ("GET", "HEAD", "OPTIONS")
"""What may be asked twice at once."""


def _judge(config: Mapping[str, Any]) -> str | None:
    """A hedge must have time to begin before its attempt is given up."""
    hedge, per_try = config.get("hedge"), config.get("per_try_timeout")
    first_byte_ms = per_try.get("first_byte_ms") if per_try else None
    if hedge and first_byte_ms is not None and hedge["after_ms"] >= first_byte_ms:
        return "hedge.after_ms must be below per_try_timeout.first_byte_ms, or no hedge is ever made"
    return None


class RetryBudget(Record):
    """How many requests may be sent again."""

    percent: float = field(
        kinds.number(between=(0, 100)),
        required=True,
        default=20,
        unit="percent of requests",
        doc="Share of the window's requests that may be sent again.",
    )
    least_per_s: float = field(
        kinds.number(between=(0, 10_000)),
        required=True,
        default=1,
        unit="retries per second",
        doc="Retries that are allowed however few the requests are, on the window's average.",
    )
    window_s: int = field(
        kinds.integer(between=(1, 300)), required=True, default=10, unit="seconds", doc="How far back is counted."
    )


class PerTryTimeout(Record):
    """How long one attempt may take, within the timeouts of the Service."""

    checks = (at_least_one_of("connect_ms", "first_byte_ms"),)

    connect_ms: int | None = field(
        kinds.integer(between=(1, 600_000)), unit="milliseconds", doc="How long connecting may take, TLS included."
    )
    first_byte_ms: int | None = field(
        kinds.integer(between=(1, 600_000)),
        unit="milliseconds",
        doc="How long the head of the answer may take, once the request is sent.",
    )


class CircuitBreaker(Record):
    """When a host that fails is left alone for a while."""

    checks = (at_least_one_of("failures", "failure_percent"),)

    failures: int | None = field(
        kinds.integer(between=(1, 100_000)), unit="attempts in a row", doc="Opens the circuit after so many failures in a row."
    )
    failure_percent: float | None = field(
        kinds.number(between=(1, 100)),
        unit="percent of attempts",
        doc="Opens the circuit when so large a share of the window's attempts failed.",
    )
    least_requests: int = field(
        kinds.integer(between=(1, 100_000)),
        required=True,
        default=20,
        unit="attempts",
        doc="Below so many attempts in the window their share of failures says nothing.",
    )
    window_s: int = field(
        kinds.integer(between=(1, 300)), required=True, default=10, unit="seconds", doc="How far back a share is counted."
    )
    open_s: int = field(
        kinds.integer(between=(1, 3_600)),
        required=True,
        default=10,
        unit="seconds",
        doc="How long an open circuit refuses before it lets a few requests try.",
    )
    half_open_requests: int = field(
        kinds.integer(between=(1, 1_000)),
        required=True,
        default=1,
        unit="requests",
        doc="Requests that try after that; the circuit closes when all of them succeed, and opens again when one fails.",
    )
    statuses: list[int] = field(
        kinds.set_of(kinds.integer(between=(400, 599))),
        required=True,
        default=[502, 503, 504],
        doc="Statuses of the upstream that count as failures, besides attempts without an answer.",
    )


class Hedge(Record):
    """When a second attempt is made although the first goes on."""

    after_ms: int = field(
        kinds.integer(between=(1, 600_000)),
        required=True,
        unit="milliseconds",
        doc="How long no head may come before another attempt is made beside it.",
    )
    most: int = field(
        kinds.integer(between=(1, 3)), required=True, default=1, unit="attempts", doc="Attempts made besides the first at most."
    )
    methods: list[str] = field(
        kinds.set_of(kinds.string(one_of=REPEATABLE_METHODS), len_min=1),
        required=True,
        default=["GET", "HEAD"],
        doc="Methods of requests that may be asked twice; those with a body never are.",
    )


class Queue(Record):
    """How many requests a host is given at once, and who waits."""

    most_connections: int = field(
        kinds.integer(between=(1, 100_000)),
        required=True,
        unit="connections per worker",
        doc="Requests a host is given at the same time, by each worker.",
    )
    most_waiting: int = field(
        kinds.integer(between=(0, 100_000)),
        required=True,
        default=1_000,
        unit="requests per worker",
        doc="Requests that may wait; one more is refused at once.",
    )
    deadline_ms: int = field(
        kinds.integer(between=(1, 600_000)),
        required=True,
        default=1_000,
        unit="milliseconds",
        doc="How long a request waits before it is refused.",
    )


class SlowStart(Record):
    """How a Target that comes into rotation is given its share little by little."""

    window_s: int = field(
        kinds.integer(between=(1, 3_600)),
        required=True,
        unit="seconds",
        doc="Time in which the share of a Target that came into rotation grows to its full weight.",
    )
    least_percent: int = field(
        kinds.integer(between=(1, 100)),
        required=True,
        default=10,
        unit="percent of weight",
        doc="Share of its weight that a Target begins with.",
    )


class OutlierEjection(Record):
    """When a Target that fails more often than is good is passed over."""

    success_rate_percent: int = field(
        kinds.integer(between=(1, 100)),
        required=True,
        unit="percent of requests",
        doc="A Target is passed over when a smaller share of its requests succeeded.",
    )
    least_requests: int = field(
        kinds.integer(between=(1, 100_000)),
        required=True,
        default=20,
        unit="requests",
        doc="Below so many requests in an interval a Target is not judged.",
    )
    interval_s: int = field(
        kinds.integer(between=(1, 3_600)), required=True, default=10, unit="seconds", doc="How often Targets are judged."
    )
    ejection_time_s: int = field(
        kinds.integer(between=(1, 86_400)),
        required=True,
        default=30,
        unit="seconds",
        doc="How long a Target is passed over; times how often it was, up to ten times.",
    )
    most_ejected_percent: int = field(
        kinds.integer(between=(0, 100)),
        required=True,
        default=50,
        unit="percent of Targets",
        doc="Share of an Upstream's Targets that may be passed over at once; one stays in any case.",
    )


class Config(Record):
    """What is done about upstreams that are slow, full or failing; a part that is null does nothing."""

    rule = _judge

    retry_budget: RetryBudget | None = field(
        kinds.record(RetryBudget, required=False), doc="Bounds the retries that are made of a host's requests."
    )
    per_try_timeout: PerTryTimeout | None = field(
        kinds.record(PerTryTimeout, required=False), doc="Gives each attempt less time than the Service's timeouts do."
    )
    circuit_breaker: CircuitBreaker | None = field(
        kinds.record(CircuitBreaker, required=False), doc="Leaves a host that fails alone for a while."
    )
    hedge: Hedge | None = field(
        kinds.record(Hedge, required=False), doc="Asks a second time when an answer is slow to come; the first good one counts."
    )
    queue: Queue | None = field(
        kinds.record(Queue, required=False), doc="Bounds the requests a host is given at once; others wait in a queue."
    )
    slow_start: SlowStart | None = field(
        kinds.record(SlowStart, required=False), doc="Gives Targets that come into rotation their share little by little."
    )
    outlier_ejection: OutlierEjection | None = field(
        kinds.record(OutlierEjection, required=False), doc="Passes over Targets that fail more often than others may."
    )
