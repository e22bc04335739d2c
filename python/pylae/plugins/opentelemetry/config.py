# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for opentelemetry?"""

from __future__ import annotations

from pylae.schema import at_least_one_of, shorthand
from pylae.sdk import Record, field, kinds
from pylae.sdk.queue_config import Queue
from pylae.sdk.tracing_config import Propagation, connect_timeout, read_timeout, send_timeout


class Config(Record):
    """What an administrator may set."""

    checks = (at_least_one_of("traces_endpoint", "logs_endpoint"),)
    shorthands = (
        shorthand(
            "endpoint",
            kinds.string(rule="url", referenceable=True),
            lambda value, _: {"traces_endpoint": value},
            doc="Old name of `traces_endpoint`.",
        ),
    )

    traces_endpoint: str | None = field(
        kinds.string(rule="url"), referenceable=True, secret=True, encrypted=False, doc="URL spans are sent to."
    )
    logs_endpoint: str | None = field(
        kinds.string(rule="url"), referenceable=True, secret=True, encrypted=False, doc="URL log records are sent to."
    )
    headers: dict[str, str] | None = field(
        kinds.map_of(kinds.string(rule="header_name"), kinds.string(referenceable=True)),
        secret=True,
        encrypted=False,
        doc="Headers sent along.",
    )
    resource_attributes: dict[str, str] | None = field(
        kinds.map_of(kinds.string(required=True), kinds.string(required=True)),
        doc="Attributes that describe this node, added to its own.",
    )
    queue: Queue = field(
        kinds.record(Queue), required=True, default={"max_batch_size": 200}, doc="How entries wait and are sent again."
    )
    batch_span_count: int | None = field(kinds.integer(), deprecated="4.0", doc="Old name of `queue.max_batch_size`.")
    batch_flush_delay: int | None = field(
        kinds.integer(), unit="seconds", deprecated="4.0", doc="Old name of `queue.max_coalescing_delay`."
    )
    connect_timeout: int = connect_timeout(1000)
    send_timeout: int = send_timeout()
    read_timeout: int = read_timeout()
    http_response_header_for_traceid: str | None = field(kinds.string(), doc="Header that tells the client the trace's id.")
    header_type: str = field(
        kinds.string(one_of=("preserve", "ignore", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "gcp", "datadog", "instana")),
        default="preserve",
        deprecated="4.0",
        doc="Old way to choose formats; `propagation` takes its place.",
    )
    sampling_rate: float | None = field(
        kinds.number(between=(0, 1)), doc="Share of requests that is traced; it goes before the node's setting."
    )
    propagation: Propagation = field(
        kinds.record(Propagation),
        required=True,
        default={"default_format": "w3c"},
        doc="How the trace is taken over from the client and handed to the upstream.",
    )
