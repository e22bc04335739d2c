# SPDX-License-Identifier: Apache-2.0
"""What is counted in the database?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class RatelimitingMetric(Entity):
    """How many requests were counted in a window."""

    table = "ratelimiting_metrics"
    is_stored = False
    primary_key = ("identifier", "period", "period_date", "service_id", "route_id")
    ttl = True
    workspaceable = False
    admin_generated = False
    in_declarative_export = False

    identifier: str = field(kinds.string(len_min=0), required=True, doc="Whose requests were counted.")
    period: str = field(kinds.string(), required=True, doc="Length of the window.")
    period_date: int = field(
        kinds.integer(timestamp=True), required=True, unit="seconds since the epoch", doc="When the window began."
    )
    service_id: str = field(kinds.string(uuid=True), required=True, doc="Service whose requests were counted.")
    route_id: str = field(kinds.string(uuid=True), required=True, doc="Route whose requests were counted.")
    value: int = field(kinds.integer(), required=True, unit="requests", doc="How many requests were counted.")
