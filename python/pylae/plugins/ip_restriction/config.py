# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ip-restriction?"""

from __future__ import annotations

from pylae.schema import at_least_one_of
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (at_least_one_of("config.allow", "config.deny"),)

    allow: list[str] | None = field(
        kinds.array(kinds.string(rule="ip_or_cidr")), doc="Addresses and CIDR ranges that are let in; all others are refused."
    )
    deny: list[str] | None = field(
        kinds.array(kinds.string(rule="ip_or_cidr")), doc="Addresses and CIDR ranges that are refused, even when allowed as well."
    )
    status: float | None = field(kinds.number(), doc="Status of a refusal.")
    message: str | None = field(kinds.string(), doc="Message of a refusal.")
