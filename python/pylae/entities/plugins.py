# SPDX-License-Identifier: Apache-2.0
"""What is a configured plugin, and which plugins may be configured?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from pylae.entities import common
from pylae.schema import Entity, Field, Record, Variant, field, kinds

SCOPES: Final = ("route", "service", "consumer")


class PluginClass(Protocol):
    """What of a plugin its rows depend on."""

    name: ClassVar[str]
    protocols: ClassVar[Sequence[str]]
    default_protocols: ClassVar[Sequence[str] | None]
    scopes: ClassVar[Sequence[str]]
    Config: ClassVar[type[Record]]
    ConfigWithoutDatabase: ClassVar[type[Record] | None]


class NoConfig(Record):
    """The configuration of a plugin that is not known."""


def protocols_of(allowed: Sequence[str], default: Sequence[str] | None = None) -> Any:
    """The field `protocols` of a plugin that can work with these."""
    chosen = list(default or ()) or [name for name in allowed if name in common.HTTP_PROTOCOLS] or list(allowed)
    return field(
        kinds.set_of(kinds.string(one_of=tuple(allowed))),
        required=True,
        default=chosen,
        doc="The protocols of the requests it runs for.",
    )


class Plugin(Entity):
    """A plugin with its configuration and the requests it runs for."""

    table = "plugins"
    endpoint_key = "instance_name"
    cache_key = ("name", "route", "service", "consumer")
    subschema_key = "name"
    subschema_error = "plugin '%s' not enabled; add it to the 'plugins' configuration property"

    id: str = field(common.uuid, doc="Identifies the row.")
    name: str = field(kinds.string(), required=True, doc="Which plugin it is.")
    instance_name: str | None = field(common.utf8_name, doc="Names the row in URLs of the Admin API.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    route: dict[str, str] | None = field(
        kinds.foreign("routes", on_delete="cascade"), default=None, doc="Runs for requests of this Route only."
    )
    service: dict[str, str] | None = field(
        kinds.foreign("services", on_delete="cascade"), default=None, doc="Runs for requests to this Service only."
    )
    consumer: dict[str, str] | None = field(
        kinds.foreign("consumers", on_delete="cascade"), default=None, doc="Runs for requests of this Consumer only."
    )
    config: dict[str, Any] = field(kinds.record(NoConfig, abstract=True), doc="What the plugin itself is told.")
    protocols: list[str] = protocols_of(common.PROTOCOLS)
    enabled: bool = field(kinds.boolean(), required=True, default=True, doc="Whether it runs.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    _variants: ClassVar[dict[str, Variant]] = {}

    @classmethod
    def variant(cls, key: str) -> Variant | None:
        """The rules that the plugin of this name brings; `None` when it is not enabled."""
        return cls._variants.get(key)

    @classmethod
    def variant_keys(cls) -> Sequence[str]:
        """The names of the plugins that are enabled."""
        return tuple(cls._variants)

    @classmethod
    def enable(cls, plugins: Mapping[str, type[PluginClass]], *, has_database: bool = True) -> None:
        """Makes these the plugins that may be configured, in place of any others."""
        cls._variants = {name: variant_of(plugin, has_database=has_database) for name, plugin in plugins.items()}


def variant_of(plugin: type[PluginClass], *, has_database: bool = True) -> Variant:
    """What a plugin changes in its rows: its configuration, its protocols, where it may be put."""
    config = plugin.Config if has_database else plugin.ConfigWithoutDatabase or plugin.Config
    fields: dict[str, Field] = {
        "config": kinds.record(config, doc="What the plugin itself is told."),
        "protocols": protocols_of(tuple(plugin.protocols), plugin.default_protocols),
    }
    for scope in SCOPES:
        if scope not in plugin.scopes:
            fields[scope] = Plugin.fields[scope].but(eq=None)
    return Variant(fields, config.plugin_checks)
