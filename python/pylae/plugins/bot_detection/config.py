# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for bot-detection?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    allow: list[str] = field(
        kinds.array(kinds.string(is_regex=True)),
        default=[],
        doc="Patterns of user agents that are let through whatever else matches.",
    )
    deny: list[str] = field(
        kinds.array(kinds.string(is_regex=True)), default=[], doc="Patterns of further user agents that are refused."
    )
