# SPDX-License-Identifier: Apache-2.0
"""What is a Target?"""

from __future__ import annotations

from typing import Any, Final

from pylae.entities import common
from pylae.schema import Entity, field, kinds
from pylae.schema.rules import parse_host

DEFAULT_PORT: Final = 8000


def normalise_target(target: str) -> str:
    """A Target as it is stored and looked for: with a port, IPv6 written out in brackets.

    Raises:
        NotAHost: it is not a host.
    """
    parsed = parse_host(target)
    return f"{parsed.host}:{DEFAULT_PORT if parsed.port is None else parsed.port}"


class Target(Entity):
    """One place that an Upstream's requests may go to."""

    table = "targets"
    endpoint_key = "target"
    cache_key = ("upstream", "target")
    admin_disabled = True

    id: str = field(common.uuid, doc="Identifies the Target.")
    created_at: float = field(common.timestamp_ms, unit="seconds since the epoch", doc="When it was made.")
    updated_at: float = field(common.timestamp_ms, unit="seconds since the epoch", doc="When it was last written.")
    upstream: dict[str, str] = field(kinds.foreign("upstreams", on_delete="cascade"), required=True, doc="Whose Target it is.")
    target: str = field(kinds.string(rule="target"), required=True, doc="Host name or address, and port.")
    weight: int = field(
        kinds.integer(between=(0, 65535)), default=100, unit="shares", doc="Its share of the requests; 0 for none."
    )
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    @classmethod
    def complete(cls, row: dict[str, Any]) -> None:
        """Writes the target out in full, so that one place has one spelling."""
        row["target"] = normalise_target(row["target"])
