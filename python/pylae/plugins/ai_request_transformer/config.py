# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ai-request-transformer?"""

from __future__ import annotations

from pylae.schema import conditional, mutually_required
from pylae.sdk import Record, field, kinds
from pylae.sdk.llm_config import Llm


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        conditional(
            "config.llm.route_type",
            {"not_one_of": ["llm/v1/chat"]},
            "config.llm.route_type",
            {"eq": "llm/v1/chat"},
            then_error="'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins",
        ),
        mutually_required("config.http_proxy_host", "config.http_proxy_port"),
        mutually_required("config.https_proxy_host", "config.https_proxy_port"),
    )

    prompt: str = field(kinds.string(), required=True, doc="What the model is told to do with the request body.")
    transformation_extract_pattern: str | None = field(
        kinds.string(), doc="Regular expression whose match in the model's answer is taken; all of it if unset."
    )
    http_timeout: int = field(
        kinds.integer(), required=True, default=60_000, unit="milliseconds", doc="How long one call of the model may take."
    )
    https_verify: bool = field(
        kinds.boolean(), required=True, default=True, doc="Verifies the certificate of the model's server."
    )
    max_request_body_size: int = field(
        kinds.integer(gt=0), default=8192, unit="bytes", doc="Largest request body that is looked into."
    )
    http_proxy_host: str | None = field(
        kinds.string(rule="host"), doc="Host of the forward proxy for plain HTTP calls of the model."
    )
    http_proxy_port: int | None = field(
        kinds.integer(between=(0, 65_535)), doc="Port of the forward proxy for plain HTTP calls of the model."
    )
    https_proxy_host: str | None = field(kinds.string(rule="host"), doc="Host of the forward proxy for HTTPS calls of the model.")
    https_proxy_port: int | None = field(
        kinds.integer(between=(0, 65_535)), doc="Port of the forward proxy for HTTPS calls of the model."
    )
    llm: Llm = field(kinds.record(Llm), required=True, doc="The language model that is called, and how.")
