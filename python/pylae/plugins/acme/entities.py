# SPDX-License-Identifier: Apache-2.0
"""What does acme keep?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class AcmeItem(Entity):
    """What acme keeps: accounts, orders, certificates."""

    table = "acme_storage"
    cache_key = ("key",)
    ttl = True
    workspaceable = False

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the entry.")
    key: str = field(kinds.string(), required=True, unique=True, auto=True, doc="Name the entry is looked up by.")
    value: str = field(
        kinds.string(),
        required=True,
        auto=True,
        secret=True,
        encrypted=False,
        doc="Certificate, key, challenge or lock that is kept.",
    )
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
