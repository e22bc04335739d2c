# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for statsd?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds
from pylae.sdk.queue_config import Queue


class Metric(Record):
    """Metrics that are sent."""

    checks = (conditional("stat_type", {"one_of": ("counter", "gauge")}, "sample_rate", {"required": True}),)

    name: str = field(
        kinds.string(
            one_of=(
                "kong_latency",
                "latency",
                "request_count",
                "request_per_user",
                "request_size",
                "response_size",
                "status_count",
                "status_count_per_user",
                "unique_users",
                "upstream_latency",
                "status_count_per_workspace",
                "status_count_per_user_per_route",
                "shdict_usage",
            )
        ),
        required=True,
        doc="What is measured.",
    )
    stat_type: str = field(
        kinds.string(one_of=("counter", "gauge", "histogram", "meter", "set", "timer")),
        required=True,
        doc="StatsD type the metric is sent as.",
    )
    sample_rate: float | None = field(kinds.number(gt=0), doc="Share of requests for which the metric is sent.")
    consumer_identifier: str | None = field(
        kinds.string(one_of=("consumer_id", "custom_id", "username")), doc="How a Consumer is named in this metric."
    )
    service_identifier: str | None = field(
        kinds.string(one_of=("service_id", "service_name", "service_host", "service_name_or_host")),
        doc="How a Service is named in this metric.",
    )
    workspace_identifier: str | None = field(
        kinds.string(one_of=("workspace_id", "workspace_name")), doc="How a workspace is named in this metric."
    )


class Config(Record):
    """What an administrator may set."""

    host: str = field(kinds.string(rule="host"), default="localhost", doc="Name or address of the StatsD server.")
    port: int = field(kinds.integer(between=(0, 65_535)), default=8125, doc="Port of the StatsD server.")
    prefix: str = field(kinds.string(), default="kong", doc="First part of every metric's name.")
    metrics: list[Metric] = field(
        kinds.array(kinds.record(Metric)),
        default=[
            {"name": "request_count", "sample_rate": 1, "stat_type": "counter"},
            {"name": "latency", "stat_type": "timer"},
            {"name": "request_size", "sample_rate": 1, "stat_type": "counter"},
            {"name": "status_count", "sample_rate": 1, "stat_type": "counter"},
            {"name": "response_size", "sample_rate": 1, "stat_type": "counter"},
            {"name": "unique_users", "stat_type": "set"},
            {"name": "request_per_user", "sample_rate": 1, "stat_type": "counter"},
            {"name": "upstream_latency", "stat_type": "timer"},
            {"name": "kong_latency", "stat_type": "timer"},
            {"name": "status_count_per_user", "sample_rate": 1, "stat_type": "counter"},
            {"name": "status_count_per_workspace", "sample_rate": 1, "stat_type": "counter"},
            {"name": "status_count_per_user_per_route", "sample_rate": 1, "stat_type": "counter"},
            {"name": "shdict_usage", "sample_rate": 1, "stat_type": "gauge"},
        ],
        doc="Metrics that are sent.",
    )
    allow_status_codes: list[str] | None = field(
        kinds.array(kinds.string(match="^[0-9]+-[0-9]+$")),
        doc="Ranges of statuses that are reported, such as `200-299`; none for all.",
    )
    udp_packet_size: float = field(
        kinds.number(between=(0, 65_507)),
        default=0,
        unit="bytes",
        doc="Largest packet in which metrics go together; 0 for one metric a packet.",
    )
    use_tcp: bool = field(kinds.boolean(), default=False, doc="Sends over TCP instead of UDP.")
    hostname_in_prefix: bool = field(kinds.boolean(), default=False, doc="Adds this node's name to the prefix.")
    consumer_identifier_default: str = field(
        kinds.string(one_of=("consumer_id", "custom_id", "username")),
        required=True,
        default="custom_id",
        doc="How a Consumer is named where a metric does not say.",
    )
    service_identifier_default: str = field(
        kinds.string(one_of=("service_id", "service_name", "service_host", "service_name_or_host")),
        required=True,
        default="service_name_or_host",
        doc="How a Service is named where a metric does not say.",
    )
    workspace_identifier_default: str = field(
        kinds.string(one_of=("workspace_id", "workspace_name")),
        required=True,
        default="workspace_id",
        doc="How a workspace is named where a metric does not say.",
    )
    retry_count: int | None = field(kinds.integer(), deprecated="4.0", doc="Has no effect any more.")
    queue_size: int | None = field(kinds.integer(), deprecated="4.0", doc="Old name of `queue.max_batch_size`.")
    flush_timeout: float | None = field(
        kinds.number(), unit="seconds", deprecated="4.0", doc="Old name of `queue.max_coalescing_delay`."
    )
    tag_style: str | None = field(
        kinds.string(one_of=("dogstatsd", "influxdb", "librato", "signalfx")),
        doc="Dialect in which tags are written; none puts everything in the name.",
    )
    queue: Queue = field(kinds.record(Queue), required=True, doc="How entries wait and are sent again.")
