# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for aws-lambda?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.schema import custom, mutually_required
from pylae.sdk import Record, field, kinds


def _judge_proxy_url(row: Mapping[str, Any]) -> str | None:
    """A proxy is spoken to without TLS."""
    url = row["config.proxy_url"]
    return None if url is None or url.startswith("http://") else "proxy_url scheme must be http"


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        mutually_required("config.aws_key", "config.aws_secret"),
        custom("config.proxy_url", rule=_judge_proxy_url),
    )

    timeout: float = field(
        kinds.number(), required=True, default=60_000, unit="milliseconds", doc="How long one request may take."
    )
    keepalive: float = field(
        kinds.number(),
        required=True,
        default=60_000,
        unit="milliseconds",
        doc="How long an idle connection is kept for the next request.",
    )
    aws_key: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Access key id that requests are signed with."
    )
    aws_secret: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Secret access key that requests are signed with."
    )
    aws_assume_role_arn: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="ARN of the role that is assumed before the function is called."
    )
    aws_role_session_name: str = field(kinds.string(), default="kong", doc="Name of the session when a role is assumed.")
    aws_sts_endpoint_url: str | None = field(kinds.string(rule="url"), doc="URL of the STS service that roles are assumed at.")
    aws_region: str | None = field(kinds.string(rule="host"), doc="AWS region the function is in.")
    function_name: str | None = field(kinds.string(), doc="Name or ARN of the function to call.")
    qualifier: str | None = field(kinds.string(), doc="Version or alias of the function to call.")
    invocation_type: str = field(
        kinds.string(one_of=("RequestResponse", "Event", "DryRun")),
        required=True,
        default="RequestResponse",
        doc="Whether the result is awaited, the call is only queued, or it is only tried.",
    )
    log_type: str = field(
        kinds.string(one_of=("Tail", "None")),
        required=True,
        default="Tail",
        doc="Whether Lambda returns the end of the function's log.",
    )
    host: str | None = field(kinds.string(rule="host"), doc="Host of the Lambda service, in place of the one for `aws_region`.")
    port: int = field(kinds.integer(between=(0, 65_535)), default=443, doc="Port of the Lambda service.")
    disable_https: bool = field(kinds.boolean(), default=False, doc="Speaks plain HTTP to the Lambda service.")
    unhandled_status: int | None = field(
        kinds.integer(between=(100, 999)), doc="Status of the answer when the function fails with an unhandled error."
    )
    forward_request_method: bool = field(kinds.boolean(), default=False, doc="Passes the request method to the function.")
    forward_request_uri: bool = field(
        kinds.boolean(), default=False, doc="Passes the path and the query arguments to the function."
    )
    forward_request_headers: bool = field(kinds.boolean(), default=False, doc="Passes the request headers to the function.")
    forward_request_body: bool = field(kinds.boolean(), default=False, doc="Passes the request body to the function.")
    is_proxy_integration: bool = field(
        kinds.boolean(), default=False, doc="Takes status, headers and body from the function's JSON, as API Gateway does."
    )
    awsgateway_compatible: bool = field(
        kinds.boolean(), default=False, doc="Passes the request to the function in the form that API Gateway uses."
    )
    proxy_url: str | None = field(
        kinds.string(rule="url"), secret=True, encrypted=False, doc="URL of the forward proxy to the Lambda service."
    )
    skip_large_bodies: bool = field(kinds.boolean(), default=True, doc="Leaves out bodies that are too large for memory.")
    base64_encode_body: bool = field(kinds.boolean(), default=True, doc="Passes the request body to the function in Base64.")
    aws_imds_protocol_version: str = field(
        kinds.string(one_of=("v1", "v2")),
        required=True,
        default="v1",
        doc="Version of the instance metadata service that credentials are asked from.",
    )
    empty_arrays_mode: str = field(
        kinds.string(one_of=("legacy", "correct")),
        required=True,
        default="legacy",
        doc="How empty arrays of the function reach clients: `legacy` as `{}`, `correct` as `[]`.",
    )
