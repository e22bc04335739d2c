# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for acl?"""

from __future__ import annotations

from pylae.schema import at_least_one_of, only_one_of
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        only_one_of("config.allow", "config.deny"),
        at_least_one_of("config.allow", "config.deny"),
    )

    allow: list[str] | None = field(kinds.array(kinds.string()), doc="Groups that are let in; everybody else is refused.")
    deny: list[str] | None = field(kinds.array(kinds.string()), doc="Groups that are refused; everybody else is let in.")
    hide_groups_header: bool = field(
        kinds.boolean(), required=True, default=False, doc="Does not tell the upstream the client's groups."
    )
    always_use_authenticated_groups: bool = field(
        kinds.boolean(), required=True, default=False, doc="Uses the groups found by other plugins even when there is a Consumer."
    )
