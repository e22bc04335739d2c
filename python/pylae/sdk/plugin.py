# SPDX-License-Identifier: Apache-2.0
"""What is a plugin?

A class with a name, a priority, a `Config` and a method for each phase it takes part in. A phase method is
called `method(exchange, config)` and returns `None` (go on), an `Answer`, or an awaitable of either: so a plain
`def` may answer from a cache at once and return a coroutine only when it has to wait. A plain `def` must never
block. `config` is what `prepare` made of the validated configuration, once per configuration.

| phase | method | may |
|---|---|---|
| certificate | `certificate(exchange, config)` | see the TLS handshake; global plugins only |
| rewrite | `rewrite(exchange, config)` | run before a Route is matched; global plugins only |
| access | `access(exchange, config)` | authenticate, refuse, change what goes upstream |
| response | `response(exchange, config)` | see the upstream's whole answer before the client does |
| header_filter | `header_filter(exchange, config)` | change the head of the answer |
| body_filter | `body_filter(exchange, config, chunk, is_last)` | return other bytes for a chunk, or `None` |
| log | `log(exchange, config)` | remember what happened; the exchange is over |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pylae.schema import Entity, Record
from pylae.sdk.references import concealed, secrets_in

if TYPE_CHECKING:
    from pylae.sdk.host import Host
    from pylae.sdk.shipping import Shipper

PHASES = ("certificate", "rewrite", "access", "response", "header_filter", "body_filter", "log")
"""All phases in walking order."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One configured plugin: a row of `plugins` without its configuration."""

    id: str
    route_id: str | None = None
    service_id: str | None = None
    consumer_id: str | None = None


class NoConfig(Record):
    """The configuration of a plugin that has nothing to configure."""


class Plugin:
    """Base of every plugin; one object per worker."""

    name: ClassVar[str]
    done: ClassVar[bool] = True
    """Whether it works; `pylae.sdk.undone` has those that can only be configured yet."""
    is_native: ClassVar[bool] = False
    """Whether the data plane does its work: it has no phases, and none of its methods runs for a request."""
    version: ClassVar[str] = "0.1.0"
    priority: ClassVar[int] = 0
    protocols: ClassVar[Sequence[str]] = ("grpc", "grpcs", "http", "https")
    """What `protocols` of a configured plugin may hold; all of these that are HTTP unless it says otherwise."""
    default_protocols: ClassVar[Sequence[str] | None] = None
    """What `protocols` holds when nothing is said, in this order; those of `protocols` that are HTTP when unset."""
    scopes: ClassVar[Sequence[str]] = ("global", "service", "route", "consumer")
    """What it may be configured for."""
    Config: ClassVar[type[Record]] = NoConfig
    ConfigWithoutDatabase: ClassVar[type[Record] | None] = None
    """A stricter `Config`, with the same fields, for nodes that have no database; the same one when unset."""
    entities: ClassVar[Sequence[type[Entity]]] = ()
    reads_body: ClassVar[int] = 0
    """Largest request body, in bytes, to have at hand before access; 0 leaves bodies streaming. See `body_limit`."""
    Shipper: ClassVar[type[Shipper] | None] = None
    """Takes what the plugin streamed away, in the control process."""
    is_pure: ClassVar[bool] = False
    """Whether its phases depend on nothing but the exchange and its configuration, and change nothing but the exchange: no
    network, no row, no counter, no stream, no clock that matters. `pylae doctor` runs such a plugin again, and no other."""
    wants_client_certificate: ClassVar[bool] = False
    """Whether clients are asked for a certificate in the TLS handshake where a row of it applies: of a Route with `snis` those
    that ask for one of these names, otherwise all. Lack of one refuses nobody; see `exchange.client.certificate_chain`."""
    authenticates: ClassVar[bool] = False
    """Whether it says who the client is. Run again later it could not, as no record holds a secret: whom it found is
    taken from the record."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __repr__(self) -> str:
        return f"<plugin {self.name} {self.version}>"

    async def start(self) -> None:
        """Runs once before the worker accepts."""

    async def stop(self) -> None:
        """Runs once after the last request has been served."""

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Refuses what the schema alone cannot.

        Raises:
            SchemaViolation: the Admin API answers 400 with its fields.
        """

    @classmethod
    def prepare(cls, config: Any, instance: Instance) -> Any:  # noqa: ARG003 - a hook to override
        """Makes what the phases get from a validated `Config`; runs once per configuration, not per request."""
        return config

    @classmethod
    def body_limit(cls, config: Any) -> int:  # noqa: ARG003 - a hook to override
        """Largest request body, in bytes, to have at hand under this prepared configuration; 0 for none."""
        return cls.reads_body

    @classmethod
    def build_config(
        cls, config: bytes, plugin_id: str, route_id: str | None, service_id: str | None, consumer_id: str | None
    ) -> Any:
        """Decodes a stored configuration (MessagePack) and prepares it; called by the data plane."""
        values = msgspec.msgpack.decode(config)
        try:
            return cls.prepare(cls.Config.load(values), Instance(plugin_id, route_id, service_id, consumer_id))
        except Exception as error:
            # What it says is logged.
            raise concealed(error, secrets_in(cls.Config, values)) from None

    def phases(self) -> dict[str, Any]:
        """The phases this plugin takes part in, as bound methods."""
        return {phase: getattr(self, phase) for phase in PHASES if hasattr(self, phase)}
