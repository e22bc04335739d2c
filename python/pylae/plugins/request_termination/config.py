# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for request-termination?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.sdk import Record, field, kinds


def _judge(config: Mapping[str, Any]) -> str | None:
    """There is one way to say what the answer holds."""
    has_body, has_type = bool(config.get("body")), bool(config.get("content_type"))
    if config.get("message") and (has_type or has_body):
        return "message cannot be used with content_type or body"
    if has_type and not has_body:
        return "content_type requires a body"
    if config.get("echo") and (has_type or has_body):
        return "echo cannot be used with content_type and body"
    return None


class Config(Record):
    """What an administrator may set."""

    rule = _judge

    status_code: int = field(kinds.integer(between=(100, 599)), required=True, default=503, doc="Status of the answer.")
    message: str | None = field(kinds.string(), doc="Message of the answer; excludes `body` and `content_type`.")
    content_type: str | None = field(kinds.string(), doc="Content type of `body`.")
    body: str | None = field(kinds.string(), doc="Body of the answer, sent as it is written here.")
    echo: bool = field(kinds.boolean(), required=True, default=False, doc="Answers with what was received, for debugging.")
    trigger: str | None = field(
        kinds.string(rule="header_name"), doc="Header or query argument without which a request is left alone."
    )
