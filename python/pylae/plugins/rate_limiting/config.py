# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for rate-limiting?"""

from __future__ import annotations

from typing import Final

from pylae.sdk import Record, field, kinds

PERIODS: Final = ("second", "minute", "hour", "day", "month", "year")
"""Window lengths, from short to long."""


class Redis(Record):
    """Where the policy `redis` keeps its counters."""

    host: str | None = field(kinds.string(rule="host"), doc="Name or address of the Redis server.")
    port: int = field(kinds.integer(between=(0, 65_535)), default=6_379, doc="Port of the Redis server.")
    timeout: int = field(
        kinds.integer(between=(0, 2_147_483_646)),
        default=2_000,
        unit="ms",
        doc="How long connecting, sending and receiving may each take.",
    )
    username: str | None = field(kinds.string(), referenceable=True, doc="User to log in as.")
    password: str | None = field(
        kinds.string(len_min=0), referenceable=True, secret=True, doc="Password to log in with."
    )
    database: int = field(kinds.integer(), default=0, doc="Number of the Redis database.")
    ssl: bool = field(kinds.boolean(), default=False, doc="Speaks TLS to the Redis server.")
    ssl_verify: bool = field(kinds.boolean(), default=False, doc="Verifies the Redis server's certificate.")
    server_name: str | None = field(kinds.string(rule="sni"), doc="Name the Redis server's certificate must carry.")


class Config(Record):
    """How many requests, of whom, and what a refused client is told."""

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
        kinds.string(starts_with="/", rule="path"), doc="Path that is counted, with `limit_by` = `path`."
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
    hide_client_headers: bool = field(
        kinds.boolean(), required=True, default=False, doc="Tells clients nothing about limits."
    )
    error_code: float = field(kinds.number(gt=0), default=429, doc="Status of a refusal.")
    error_message: str = field(kinds.string(), default="API rate limit exceeded", doc="Message of a refusal.")
    sync_rate: float = field(
        kinds.number(),
        required=True,
        default=-1,
        unit="s",
        doc="How often counters are brought to Redis; -1 for at every request.",
    )
