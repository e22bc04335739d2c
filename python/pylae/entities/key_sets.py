# SPDX-License-Identifier: Apache-2.0
"""What is a key set?"""

from __future__ import annotations

from pylae.entities import common
from pylae.schema import Entity, field, kinds


class KeySet(Entity):
    """Keys that belong together."""

    table = "key_sets"
    endpoint_key = "name"
    admin_path_name = "key-sets"

    id: str = field(common.uuid, doc="Identifies the key set.")
    name: str | None = field(kinds.string(), required=False, unique=True, doc="Names the key set in URLs of the Admin API.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
