# SPDX-License-Identifier: Apache-2.0
"""Which entities does this gateway have?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pylae.entities.ca_certificates import CaCertificate
from pylae.entities.certificates import Certificate
from pylae.entities.clustering_data_planes import ClusteringDataPlane
from pylae.entities.consumers import Consumer
from pylae.entities.filter_chains import FilterChain
from pylae.entities.key_sets import KeySet
from pylae.entities.keys import Key
from pylae.entities.parameters import Parameter
from pylae.entities.plugins import Plugin, PluginClass
from pylae.entities.routes import ROUTE_OF_FLAVOR, Route
from pylae.entities.services import Service
from pylae.entities.snis import Sni
from pylae.entities.tags import Tag
from pylae.entities.targets import Target
from pylae.entities.upstreams import Upstream
from pylae.entities.vaults import Vault
from pylae.entities.workspaces import Workspace
from pylae.schema import Entity, Schema, schema_of

CORE: Final[tuple[type[Entity], ...]] = (
    Workspace,
    CaCertificate,
    Certificate,
    Consumer,
    Upstream,
    Service,
    Route,
    Plugin,
    Sni,
    Target,
    Vault,
    KeySet,
    Key,
    FilterChain,
    Parameter,
    ClusteringDataPlane,
    Tag,
)
"""The gateway's own entities, those referred to before those that refer to them."""

_entities: dict[str, type[Entity]] = {entity.table: entity for entity in CORE}


def registry() -> Mapping[str, type[Entity]]:
    """The entities by table, parents before children: the gateway's own, then those of loaded plugins."""
    return _entities


def add(entity: type[Entity]) -> None:
    """Adds an entity of a plugin; the same one again changes nothing.

    Raises:
        ValueError: another entity has this table.
    """
    present = _entities.setdefault(entity.table, entity)
    if present is not entity:
        raise ValueError(f"two entities have the table `{entity.table}`: `{present.__name__}` and `{entity.__name__}`")


def enable_plugins(plugins: Mapping[str, Any], *, has_database: bool = True) -> None:
    """Makes loaded plugins configurable and adds their entities.

    Args:
        plugins: classes by name, as `pylae.sdk.loader.load_plugins` returns them.
        has_database: whether this node has one; some configurations need it.
    """
    Plugin.enable(plugins, has_database=has_database)
    for plugin in plugins.values():
        for entity in plugin.entities:
            add(entity)


def use_router_flavor(flavor: str) -> None:
    """Makes Routes those of the setting `router_flavor`; called before tables are made of the registry.

    Args:
        flavor: `traditional`, `traditional_compatible` or `expressions`.
    """
    _entities[Route.table] = ROUTE_OF_FLAVOR[flavor]


def schema(table: str) -> Schema:
    """The rules of a table.

    Raises:
        KeyError: there is no such table.
    """
    return schema_of(_entities[table])


def children_of(table: str) -> Iterable[tuple[type[Entity], str]]:
    """The entities that refer to a table, each with the field by which it does."""
    for entity in _entities.values():
        for name, declared in entity.fields.items():
            if declared.references == table:
                yield entity, name


__all__ = ["CORE", "PluginClass", "add", "children_of", "enable_plugins", "registry", "schema", "use_router_flavor"]
