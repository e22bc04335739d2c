# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for standard-webhooks?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    secret_v1: str = field(
        kinds.string(), required=True, referenceable=True, secret=True, doc="Secret that signatures are verified with."
    )
    tolerance_second: int = field(
        kinds.integer(gt=-1), required=True, default=300, unit="seconds", doc="How old a webhook's timestamp may be."
    )
