# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for response-ratelimiting?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.schema import at_least_one_of, conditional
from pylae.sdk import Record, field, kinds
from pylae.sdk.redis_config import SHORTHANDS, Redis

PERIODS: Final = ("second", "minute", "hour", "day", "month", "year")


def _judge_periods(limits: Mapping[str, Any]) -> str | None:
    """A longer period may not allow less than a shorter one."""
    shorter: str | None = None
    for period in PERIODS:
        limit = limits.get(period)
        if limit is None:
            continue
        if shorter is not None and limit < limits[shorter]:
            return f"the limit for {period}({limit:.1f}) cannot be lower than the limit for {shorter}({limits[shorter]:.1f})"
        shorter = period
    return None


class Limits(Record):
    """Limits by name, each with what a period allows."""

    rule = _judge_periods
    checks = (at_least_one_of(*PERIODS),)

    second: float | None = field(kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted a second.")
    minute: float | None = field(kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted a minute.")
    hour: float | None = field(kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted an hour.")
    day: float | None = field(kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted a day.")
    month: float | None = field(
        kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted a calendar month."
    )
    year: float | None = field(
        kinds.number(gt=0), unit="what the upstream counts", doc="How much may be counted a calendar year."
    )


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        conditional("config.policy", {"eq": "redis"}, "config.redis.host", {"required": True}),
        conditional("config.policy", {"eq": "redis"}, "config.redis.port", {"required": True}),
        conditional("config.policy", {"eq": "redis"}, "config.redis.timeout", {"required": True}),
    )
    shorthands = SHORTHANDS

    header_name: str = field(
        kinds.string(),
        default="x-kong-limit",
        doc="Upstream response header that names limits and how much to count against each.",
    )
    limit_by: str = field(
        kinds.string(one_of=("consumer", "credential", "ip")),
        default="consumer",
        doc="Whose requests are counted together; what has no such identity counts by client address.",
    )
    policy: str = field(
        kinds.string(one_of=("local", "cluster", "redis")),
        default="local",
        doc="Where counters live: in this node's memory, the database, or Redis.",
    )
    fault_tolerant: bool = field(
        kinds.boolean(), required=True, default=True, doc="Lets requests through when counters cannot be reached."
    )
    redis: Redis = field(kinds.record(Redis), required=True, doc="Where the policy `redis` keeps its counters.")
    block_on_first_violation: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Refuses requests before they go upstream as soon as any limit is used up.",
    )
    hide_client_headers: bool = field(kinds.boolean(), required=True, default=False, doc="Tells clients nothing about limits.")
    limits: dict[str, Limits] = field(
        kinds.map_of(kinds.string(), kinds.record(Limits), len_min=1),
        required=True,
        doc="Limits by name, each with what a period allows.",
    )
