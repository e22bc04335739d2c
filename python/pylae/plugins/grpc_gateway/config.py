# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for grpc-gateway?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    proto: str | None = field(kinds.string(), doc="Path of the proto file that describes the service and its HTTP mapping.")
