# SPDX-License-Identifier: Apache-2.0
"""What is an SNI?"""

from __future__ import annotations

from pylae.entities import common
from pylae.schema import Entity, field, kinds


class Sni(Entity):
    """A server name for which a Certificate is shown."""

    table = "snis"
    endpoint_key = "name"

    id: str = field(common.uuid, doc="Identifies the SNI.")
    name: str = field(
        kinds.string(rule="wildcard_host", unique_across_ws=True),
        required=True,
        unique=True,
        doc="The server name, perhaps with an asterisk.",
    )
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    certificate: dict[str, str] = field(kinds.foreign("certificates"), required=True, doc="What is shown.")
