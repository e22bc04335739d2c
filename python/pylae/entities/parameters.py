# SPDX-License-Identifier: Apache-2.0
"""What is a parameter?"""

from __future__ import annotations

from pylae.entities import common
from pylae.schema import Entity, field, kinds


class Parameter(Entity):
    """A value that all nodes of a cluster share; it has no table, because this gateway has none to share."""

    table = "parameters"
    primary_key = ("key",)
    cache_key = ("key",)
    workspaceable = False
    admin_generated = False
    is_stored = False

    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    key: str = field(kinds.string(), required=True, unique=True, doc="Names the parameter.")
    value: str = field(kinds.string(), required=True, doc="What it is set to.")
