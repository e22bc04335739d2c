# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for datadog?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds
from pylae.sdk.queue_config import Queue


class Metric(Record):
    """Metrics that are sent."""

    checks = (conditional("stat_type", {"one_of": ("counter", "gauge")}, "sample_rate", {"required": True}),)

    name: str = field(
        kinds.string(one_of=("kong_latency", "latency", "request_count", "request_size", "response_size", "upstream_latency")),
        required=True,
        doc="What is measured.",
    )
    stat_type: str = field(
        kinds.string(one_of=("counter", "gauge", "histogram", "meter", "set", "timer", "distribution")),
        required=True,
        doc="DogStatsD type the metric is sent as.",
    )
    tags: list[str] | None = field(
        kinds.array(kinds.string(match="^.*[^:]$")), doc="Further tags of the metric, as `name:value`."
    )
    sample_rate: float | None = field(kinds.number(between=(0, 1)), doc="Share of requests for which the metric is sent.")
    consumer_identifier: str | None = field(
        kinds.string(one_of=("consumer_id", "custom_id", "username")), doc="How a Consumer is named in this metric."
    )


class Config(Record):
    """What an administrator may set."""

    host: str = field(
        kinds.string(rule="host"), default="localhost", referenceable=True, doc="Name or address of the Datadog agent."
    )
    port: int = field(kinds.integer(between=(0, 65_535)), default=8125, doc="Port of the Datadog agent.")
    prefix: str = field(kinds.string(), default="kong", doc="First part of every metric's name.")
    service_name_tag: str = field(kinds.string(), default="name", doc="Name of the tag that holds the Service.")
    status_tag: str = field(kinds.string(), default="status", doc="Name of the tag that holds the status.")
    consumer_tag: str = field(kinds.string(), default="consumer", doc="Name of the tag that holds the Consumer.")
    retry_count: int | None = field(kinds.integer(), deprecated="4.0", doc="Has no effect any more.")
    queue_size: int | None = field(kinds.integer(), deprecated="4.0", doc="Old name of `queue.max_batch_size`.")
    flush_timeout: float | None = field(
        kinds.number(), unit="seconds", deprecated="4.0", doc="Old name of `queue.max_coalescing_delay`."
    )
    queue: Queue = field(kinds.record(Queue), required=True, doc="How entries wait and are sent again.")
    metrics: list[Metric] = field(
        kinds.array(kinds.record(Metric)),
        required=True,
        default=[
            {
                "consumer_identifier": "custom_id",
                "name": "request_count",
                "sample_rate": 1,
                "stat_type": "counter",
                "tags": ["app:kong"],
            },
            {"consumer_identifier": "custom_id", "name": "latency", "stat_type": "timer", "tags": ["app:kong"]},
            {"consumer_identifier": "custom_id", "name": "request_size", "stat_type": "timer", "tags": ["app:kong"]},
            {"consumer_identifier": "custom_id", "name": "response_size", "stat_type": "timer", "tags": ["app:kong"]},
            {"consumer_identifier": "custom_id", "name": "upstream_latency", "stat_type": "timer", "tags": ["app:kong"]},
            {"consumer_identifier": "custom_id", "name": "kong_latency", "stat_type": "timer", "tags": ["app:kong"]},
        ],
        doc="Metrics that are sent.",
    )
