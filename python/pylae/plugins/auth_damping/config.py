# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for auth-damping?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    window: int = field(
        kinds.integer(between=(1, 86_400)),
        required=True,
        default=60,
        unit="seconds",
        doc="Failures are counted in windows of this length.",
    )
    failures_per_ip: int | None = field(
        kinds.integer(between=(1, 1_000_000)),
        default=20,
        unit="failures",
        doc="Failures from one address in a window after which it is refused; none: addresses are not counted.",
    )
    failures_per_name: int | None = field(
        kinds.integer(between=(1, 1_000_000)),
        default=10,
        unit="failures",
        doc="Failures for one username, key id or the like in a window after which it is locked, even for the right secret; "
        "none: names are not counted.",
    )
