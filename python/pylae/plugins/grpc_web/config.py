# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for grpc-web?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    proto: str | None = field(kinds.string(), doc="Path of the proto file that describes the service; needed for JSON only.")
    pass_stripped_path: bool | None = field(
        kinds.boolean(), doc="Sends the path upstream without the part that the Route strips."
    )
    allow_origin_header: str = field(kinds.string(), default="*", doc="Value of `Access-Control-Allow-Origin` in answers.")
