# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for request-size-limiting?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    allowed_payload_size: int = field(
        kinds.integer(), default=128, doc="Largest body that is let through, counted in `size_unit`."
    )
    size_unit: str = field(
        kinds.string(one_of=("megabytes", "kilobytes", "bytes")),
        required=True,
        default="megabytes",
        doc="What `allowed_payload_size` counts.",
    )
    require_content_length: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Refuses requests that have neither `Content-Length` nor a chunked body.",
    )
