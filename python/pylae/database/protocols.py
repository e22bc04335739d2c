# SPDX-License-Identifier: Apache-2.0
"""Do a plugin and what it is attached to speak a common protocol?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, Protocol, runtime_checkable

from pylae.database.changes import Row
from pylae.database.strategies import Reader
from pylae.errors import SchemaViolation

_PAGE_SIZES: Final = (10, 1000)
"""Of the first look at a Service's Routes, and of further ones: nearly always the first Route settles it."""


@runtime_checkable
class KnowsProtocols(Protocol):
    """A reader that is asked about the same Services again and again."""

    def route_protocols(self, service_id: str) -> Collection[frozenset[str]]:
        """What the Routes of a Service speak, each set of protocols once."""
        ...


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
        has_routes = False
        for spoken in _spoken(reader, plugin["service"]["id"]):
            if not protocols.isdisjoint(spoken):
                return
            has_routes = True
        if has_routes:
            text = "must match the protocols of at least one route pointing to this Plugin's service"
            raise SchemaViolation({"protocols": text})


def _spoken(reader: Reader, service_id: str) -> Iterable[Collection[str]]:
    """The protocols of each Route of a Service."""
    if isinstance(reader, KnowsProtocols):
        return reader.route_protocols(service_id)
    return (route["protocols"] or () for route in _routes_of(reader, {"service": service_id}))


def _routes_of(reader: Reader, where: dict[str, Any]) -> Iterator[Row]:
    first, further = _PAGE_SIZES
    routes = reader.page("routes", limit=first, where=where)
    limit = first
    while routes:
        yield from routes
        if len(routes) < limit:
            return
        limit = further
        routes = reader.page("routes", limit=limit, after=routes[-1]["id"], where=where)
