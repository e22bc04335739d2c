# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for zipkin?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pylae.sdk import Record, field, kinds
from pylae.sdk.queue_config import Queue
from pylae.sdk.tracing_config import Propagation, connect_timeout, read_timeout, send_timeout


def _judge_tags(tags: Sequence[Mapping[str, Any]]) -> str | None:
    """A tag has one value."""
    names: set[str] = set()
    for tag in tags:
        if tag["name"] in names:
            return f"repeated tags are not allowed: {tag['name']}"
        names.add(tag["name"])
    return None


class Tag(Record):
    """Tags every request's span gets."""

    name: str = field(
        kinds.string(
            not_one_of=(
                "error",
                "http.method",
                "http.path",
                "http.status_code",
                "kong.balancer.state",
                "kong.balancer.try",
                "kong.consumer",
                "kong.credential",
                "kong.node.id",
                "kong.route",
                "kong.service",
                "lc",
                "peer.hostname",
            )
        ),
        required=True,
        doc="Name of the tag.",
    )
    value: str = field(kinds.string(), required=True, doc="Value of the tag.")


class Config(Record):
    """What an administrator may set."""

    local_service_name: str = field(kinds.string(), required=True, default="kong", doc="Name of this node in spans.")
    http_endpoint: str | None = field(
        kinds.string(rule="url"), secret=True, encrypted=False, doc="URL spans are sent to; without it traces are only handed on."
    )
    sample_ratio: float = field(
        kinds.number(between=(0, 1)), default=0.001, doc="Share of requests that is traced where the client has not decided."
    )
    default_service_name: str | None = field(
        kinds.string(), doc="Name of the upstream in spans of requests without a named Service."
    )
    include_credential: bool = field(
        kinds.boolean(), required=True, default=True, doc="Puts the id of the client's credential in the span."
    )
    traceid_byte_count: int = field(
        kinds.integer(one_of=(8, 16)), required=True, default=16, unit="bytes", doc="Length of the trace ids made here."
    )
    header_type: str = field(
        kinds.string(one_of=("preserve", "ignore", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp", "instana")),
        required=True,
        default="preserve",
        deprecated="4.0",
        doc="Old way to choose formats; `propagation` takes its place.",
    )
    default_header_type: str = field(
        kinds.string(one_of=("b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp", "instana")),
        required=True,
        default="b3",
        deprecated="4.0",
        doc="Old name of `propagation.default_format`.",
    )
    tags_header: str = field(
        kinds.string(), required=True, default="Zipkin-Tags", doc="Request header whose `name=value` pairs become tags."
    )
    static_tags: list[Tag] | None = field(kinds.array(kinds.record(Tag), rule=_judge_tags), doc="Tags every request's span gets.")
    http_span_name: str = field(
        kinds.string(one_of=("method", "method_path")),
        required=True,
        default="method",
        doc="What a span is named: the method, or the method and the path.",
    )
    connect_timeout: int = connect_timeout(2000)
    send_timeout: int = send_timeout()
    read_timeout: int = read_timeout()
    http_response_header_for_traceid: str | None = field(kinds.string(), doc="Header that tells the client the trace's id.")
    phase_duration_flavor: str = field(
        kinds.string(one_of=("annotations", "tags")),
        required=True,
        default="annotations",
        doc="Whether durations of phases are annotations or tags.",
    )
    queue: Queue = field(kinds.record(Queue), required=True, doc="How entries wait and are sent again.")
    propagation: Propagation = field(
        kinds.record(Propagation),
        required=True,
        default={"default_format": "b3"},
        doc="How the trace is taken over from the client and handed to the upstream.",
    )
