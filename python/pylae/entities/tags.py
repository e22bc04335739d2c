# SPDX-License-Identifier: Apache-2.0
"""What is a tag?"""

from __future__ import annotations

from pylae.entities import common
from pylae.schema import Entity, field, kinds


class Tag(Entity):
    """A word on a row, seen from the word; it has no table, because it is a view of all the others."""

    table = "tags"
    primary_key = ("tag",)
    endpoint_key = "tag"
    workspaceable = False
    admin_generated = False
    is_stored = False

    tag: str = field(kinds.string(rule="tag"), required=True, doc="The word.")
    entity_name: str = field(kinds.string(), required=True, doc="The table of the row that has it.")
    entity_id: str = field(common.uuid, required=True, doc="The row that has it.")
