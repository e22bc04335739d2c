# SPDX-License-Identifier: Apache-2.0
"""What is a group?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class AclGroup(Entity):
    """A group that a Consumer belongs to."""

    table = "acls"
    cache_key = ("consumer", "group")

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the membership.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Who belongs to the group."
    )
    group: str = field(kinds.string(), required=True, doc="Name of the group.")
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")
