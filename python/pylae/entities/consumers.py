# SPDX-License-Identifier: Apache-2.0
"""What is a Consumer?"""

from __future__ import annotations

from pylae.entities import common
from pylae.schema import Entity, at_least_one_of, field, kinds


class Consumer(Entity):
    """Someone who calls the APIs."""

    table = "consumers"
    endpoint_key = "username"

    id: str = field(common.uuid, doc="Identifies the Consumer.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    username: str | None = field(kinds.string(), unique=True, doc="Names the Consumer here and to upstreams.")
    custom_id: str | None = field(kinds.string(), unique=True, doc="Names the Consumer in another system.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    checks = (at_least_one_of("custom_id", "username"),)
