# SPDX-License-Identifier: Apache-2.0
"""Do a plugin and what it is attached to speak a common protocol?"""

from __future__ import annotations

from pylae.database.changes import Row
from pylae.database.strategies import Reader
from pylae.errors import SchemaViolation

_MAX_ROUTES = 10_000_000


def check_plugin_protocols(reader: Reader, plugin: Row) -> None:
    """Refuses a plugin that could never run.

    Raises:
        SchemaViolation: 400.
    """
    protocols = set(plugin["protocols"] or ())
    if plugin["route"] is not None:
        route = reader.get("routes", plugin["route"]["id"])
        if route is not None and protocols.isdisjoint(route["protocols"] or ()):
            raise SchemaViolation({"protocols": "must match the associated route's protocols"})
    elif plugin["service"] is not None:
        routes = reader.page("routes", limit=_MAX_ROUTES, where={"service": plugin["service"]["id"]})
        if routes and all(protocols.isdisjoint(route["protocols"] or ()) for route in routes):
            text = "must match the protocols of at least one route pointing to this Plugin's service"
            raise SchemaViolation({"protocols": text})
