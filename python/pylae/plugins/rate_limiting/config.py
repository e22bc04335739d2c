# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for rate-limiting?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.schema import at_least_one_of, conditional
from pylae.sdk import Record, field, kinds
from pylae.sdk.redis_config import SHORTHANDS, Redis

PERIODS: Final = ("second", "minute", "hour", "day", "month", "year")
"""Window lengths, from short to long."""


MIN_SYNC_RATE_S: Final = 0.02


def _judge(config: Mapping[str, Any]) -> str | None:
    """A longer period may not allow less than a shorter one; counters are brought to Redis where there is one."""
    shorter: str | None = None
    for period in PERIODS:
        limit = config.get(period)
        if limit is None:
            continue
        if shorter is not None and limit < config[shorter]:
            return f"The limit for {period}({limit:.1f}) cannot be lower than the limit for {shorter}({config[shorter]:.1f})"
        shorter = period
    sync_rate_s = config.get("sync_rate")
    if sync_rate_s is not None and sync_rate_s != -1:
        if config.get("policy") != "redis":
            return "sync_rate can only be used with the redis policy"
        if sync_rate_s < MIN_SYNC_RATE_S:
            return "sync_rate must be greater than 0.02, or -1 to disable"
    return None


class Config(Record):
    """How many requests, of whom, and what a refused client is told."""

    rule = _judge
    plugin_checks = (
        at_least_one_of(*(f"config.{period}" for period in PERIODS)),
        conditional("config.policy", {"eq": "redis"}, "config.redis.host", {"required": True}),
        conditional("config.policy", {"eq": "redis"}, "config.redis.port", {"required": True}),
        conditional("config.policy", {"eq": "redis"}, "config.redis.timeout", {"required": True}),
        conditional("config.limit_by", {"eq": "header"}, "config.header_name", {"required": True}),
        conditional("config.limit_by", {"eq": "path"}, "config.path", {"required": True}),
    )
    shorthands = SHORTHANDS

    second: float | None = field(kinds.number(gt=0), doc="Requests a second that are let through.")
    minute: float | None = field(kinds.number(gt=0), doc="Requests a minute that are let through.")
    hour: float | None = field(kinds.number(gt=0), doc="Requests an hour that are let through.")
    day: float | None = field(kinds.number(gt=0), doc="Requests a day that are let through.")
    month: float | None = field(kinds.number(gt=0), doc="Requests a calendar month that are let through.")
    year: float | None = field(kinds.number(gt=0), doc="Requests a calendar year that are let through.")
    limit_by: str = field(
        kinds.string(one_of=("consumer", "credential", "ip", "service", "header", "path")),
        default="consumer",
        doc="Whose requests are counted together; what has no such identity counts by client address.",
    )
    header_name: str | None = field(
        kinds.string(rule="header_name"), doc="Header whose values are counted apart, with `limit_by` = `header`."
    )
    path: str | None = field(
        kinds.string(starts_with="/", match_none=[("//", "must not have empty segments")], rule="path"),
        doc="Path that is counted, with `limit_by` = `path`.",
    )
    policy: str = field(
        kinds.string(len_min=0, one_of=("local", "cluster", "redis")),
        default="local",
        doc="Where counters live: in this node's memory, the database, or Redis.",
    )
    fault_tolerant: bool = field(
        kinds.boolean(), required=True, default=True, doc="Lets requests through when counters cannot be reached."
    )
    redis: Redis = field(kinds.record(Redis), required=True, doc="Where the policy `redis` keeps its counters.")
    hide_client_headers: bool = field(kinds.boolean(), required=True, default=False, doc="Tells clients nothing about limits.")
    error_code: float = field(kinds.number(gt=0), default=429, doc="Status of a refusal.")
    error_message: str = field(kinds.string(), default="API rate limit exceeded", doc="Message of a refusal.")
    sync_rate: float = field(
        kinds.number(),
        required=True,
        default=-1,
        unit="seconds",
        doc="How often counters are brought to Redis; -1 for at every request.",
    )


class ConfigWithoutDatabase(Config):
    """The same without counters in a database."""

    policy: str = field(
        kinds.string(len_min=0, one_of=("local", "redis")),
        default="local",
        doc="Where counters live: in this node's memory or Redis.",
    )
