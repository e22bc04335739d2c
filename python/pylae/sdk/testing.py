# SPDX-License-Identifier: Apache-2.0
"""How is a plugin tested without a gateway?

A `Scene` holds one plugin with one configuration, a stand-in upstream and the rows of a stand-in database. It
validates the configuration as the Admin API does and walks requests through the plugin's phases in the gateway's
order, over an exchange that behaves as the data plane's does:

    with Scene(MyPlugin, {"greeting": "hello"}) as scene:
        outcome = scene.send("GET", "/orders", headers={"Accept": "text/plain"})
        assert outcome.status == 200
        assert outcome.upstream.get_header("X-Greeting") == "hello"

A `Chain` holds several, which walk over one exchange in the order of their priorities:

    with Chain([(MyPlugin, {"greeting": "hello"}), (Other, {})]) as chain:
        outcome = chain.send()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from pylae.schema import Record, Schema, kinds, schema_of
from pylae.schema import field as field_
from pylae.sdk.exchange import HeaderValue
from pylae.sdk.plugin import Plugin
from pylae.sdk.stand_in_exchange import (
    ExchangeIsOver,
    MemoryAnswer,
    MemoryClient,
    MemoryExchange,
    MemoryRequest,
    MemoryService,
    MemoryServiceRequest,
    MemoryServiceResponse,
)
from pylae.sdk.stand_in_fields import Fields
from pylae.sdk.stand_in_host import START_MS, Clock, MemoryHost
from pylae.sdk.walking import Link, Outcome, Upstream, Walker, exchange_of, in_order

__all__ = [
    "PLUGIN_ID",
    "ROUTE_ID",
    "SERVICE_ID",
    "START_MS",
    "Chain",
    "Clock",
    "ExchangeIsOver",
    "Fields",
    "MemoryAnswer",
    "MemoryClient",
    "MemoryExchange",
    "MemoryHost",
    "MemoryRequest",
    "MemoryService",
    "MemoryServiceRequest",
    "MemoryServiceResponse",
    "Outcome",
    "Scene",
    "Upstream",
    "validated",
]

ROUTE_ID: Final = "11111111-1111-4111-8111-111111111111"
SERVICE_ID: Final = "22222222-2222-4222-8222-222222222222"
PLUGIN_ID: Final = "33333333-3333-4333-8333-333333333333"
"""Of the first plugin; that of the next one ends on 4 in the place of the last 3, and so on."""


class Chain:
    """Several plugins with their configurations, a stand-in upstream and database.

    Args:
        plugins: Each with its configuration as posted to the Admin API, in any order; defaults are applied and
            everything is validated.
        rows: Rows the plugins find by call, per table.
        scope: Ids of the `route`, `service` or `consumer` that all of them are configured for.
        prepare_exchange: Called with the exchange before the first phase: say who an earlier plugin authenticated.

    Raises:
        SchemaViolation: the Admin API would refuse a configuration.
    """

    def __init__(
        self,
        plugins: Sequence[tuple[type[Plugin], Mapping[str, Any]]],
        *,
        rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        upstream: Upstream | Callable[[MemoryServiceRequest], Upstream] | None = None,
        scope: Mapping[str, str] | None = None,
        prepare_exchange: Callable[[MemoryExchange], None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.host = MemoryHost(self.clock, rows or {})
        self.upstream = upstream or Upstream()
        self.route: dict[str, Any] | None = {"id": ROUTE_ID, "name": "route", "service": {"id": SERVICE_ID}}
        self.service: dict[str, Any] | None = {"id": SERVICE_ID, "name": "service", "host": "upstream.test"}
        self.links = in_order(
            _link(plugin, config, self.host, f"{PLUGIN_ID[:-2]}{0x33 + index:02x}", scope or {})
            for index, (plugin, config) in enumerate(plugins)
        )
        self._prepare_exchange = prepare_exchange
        self._runner = asyncio.Runner()
        self._runner.run(self.host.start([link.plugin for link in self.links]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {' '.join(link.plugin.name for link in self.links)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops the plugins."""
        self._runner.run(self.host.stop([link.plugin for link in self.links]))
        self._runner.close()

    def send(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: bytes = b"",
        ip: str = "192.0.2.1",
        uri_captures: dict[str | int, str] | None = None,
    ) -> Outcome:
        """Walks one request through the phases.

        Args:
            method: Any method.
            target: Path, and `?query` if any.
            headers: Fields as sent; a list repeats the field.
            body: The whole body.
            ip: The client's address.
            uri_captures: What the Route's regex captured.
        """
        return self._runner.run(self.send_async(method, target, headers=headers, body=body, ip=ip, uri_captures=uri_captures))

    def send_together(self, requests: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Sends several requests at once; each mapping holds the arguments of `send`."""

        async def gather() -> list[Outcome]:
            return await asyncio.gather(*(self.send_async(**request) for request in requests))

        return self._runner.run(gather())

    async def send_async(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: bytes = b"",
        ip: str = "192.0.2.1",
        uri_captures: dict[str | int, str] | None = None,
    ) -> Outcome:
        """`send` for a test that runs its own loop."""
        request = MemoryRequest(method, target, Fields(headers), body, uri_captures)
        exchange = exchange_of(request, ip, self.route, self.service, self.clock.now_ms())
        if self._prepare_exchange is not None:
            self._prepare_exchange(exchange)
        outcome = await Walker(self.links, self.upstream).walk(exchange)
        outcome.lines += self.host.lines
        return outcome


class Scene(Chain):
    """One plugin, one configuration, a stand-in upstream and database.

    Args:
        config: As posted to the Admin API; defaults are applied and everything is validated.
        rows: Rows the plugin finds by call, per table.
        scope: Ids of the `route`, `service` or `consumer` that it is configured for.
        prepare_exchange: Called with the exchange before the first phase: say who an earlier plugin authenticated.

    Raises:
        SchemaViolation: the Admin API would refuse the configuration.
    """

    def __init__(
        self,
        plugin: type[Plugin],
        config: Mapping[str, Any] | None = None,
        *,
        rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        upstream: Upstream | Callable[[MemoryServiceRequest], Upstream] | None = None,
        scope: Mapping[str, str] | None = None,
        prepare_exchange: Callable[[MemoryExchange], None] | None = None,
    ) -> None:
        super().__init__([(plugin, config or {})], rows=rows, upstream=upstream, scope=scope, prepare_exchange=prepare_exchange)
        self.plugin = self.links[0].plugin
        self.config = self.links[0].config


def _link(plugin: type[Plugin], config: Mapping[str, Any], host: MemoryHost, plugin_id: str, scope: Mapping[str, str]) -> Link:
    stored = msgspec.msgpack.encode(validated(plugin, config))
    prepared = plugin.build_config(stored, plugin_id, scope.get("route"), scope.get("service"), scope.get("consumer"))
    return Link(plugin(host), prepared, plugin_id)


def _row_schema(config: type[Record]) -> Schema:
    """The rules of a plugin row, as far as its configuration is concerned."""
    declared = field_(kinds.record(config), doc="The plugin's configuration.")
    row = type("PluginRow", (Record,), {"config": declared, "checks": config.plugin_checks})
    return schema_of(row)


def validated(plugin: type[Plugin], config: Mapping[str, Any]) -> dict[str, Any]:
    """The full configuration, as the Admin API would store it.

    Raises:
        SchemaViolation: it would answer 400.
    """
    row = _row_schema(plugin.Config).insert({"config": dict(config)})
    full_config: dict[str, Any] = row["config"]
    plugin.check_config(full_config)
    return full_config
