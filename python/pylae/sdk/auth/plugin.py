# SPDX-License-Identifier: Apache-2.0
"""What does every plugin do that says who the client is?

Two such plugins on one Route are both asked for (AND), unless they name an `anonymous` Consumer: then whoever comes
after a success does nothing, and whoever fails lets the client pass as that Consumer (OR).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Final, Protocol

from pylae.sdk.auth.identity import Identity
from pylae.sdk.entities import Lookup
from pylae.sdk.exchange import Answer, Exchange
from pylae.sdk.host import Host
from pylae.sdk.plugin import Plugin

Refusal = tuple[int, str, Mapping[str, str] | None]
"""Status, message, headers."""

Outcome = Answer | Awaitable[Answer | None] | None
"""What a phase may return: None lets the request go on."""

UNAUTHORIZED: Final = "Unauthorized"
UNEXPECTED: Final[Refusal] = (500, "An unexpected error occurred", None)


class MayBeAnonymous(Protocol):
    """A prepared configuration."""

    @property
    def anonymous(self) -> str | None:
        """Id or username of the Consumer to take a client for that cannot be authenticated."""
        ...


class AuthPlugin(Plugin):
    """Base of the plugins that say who the client is."""

    authenticates: ClassVar[bool] = True
    scopes = ("global", "service", "route")

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        entities = host.entities
        self.consumers_by_id: Lookup = entities.lookup("consumers", "id")
        self.consumers_by_username: Lookup = entities.lookup("consumers", "username")
        self.consumers_by_custom_id: Lookup = entities.lookup("consumers", "custom_id")
        self._anonymous_by_id = entities.lookup("consumers", "id", prepare=Identity.of_anonymous)
        self._anonymous_by_username = entities.lookup("consumers", "username", prepare=Identity.of_anonymous)

    def is_settled(self, exchange: Exchange, config: MayBeAnonymous) -> bool:
        """Has another plugin authenticated the client already, so that this one has nothing to do?"""
        return config.anonymous is not None and exchange.client.credential is not None

    def accept(self, exchange: Exchange, identity: Identity | None) -> Outcome:
        """Lets the client pass as whom it was found to be; a credential whose Consumer cannot be loaded is a 500."""
        if identity is None or identity.consumer is None:
            return exchange.error(*UNEXPECTED)
        identity.impose(exchange)
        return None

    def refuse(self, exchange: Exchange, config: MayBeAnonymous, refusal: Refusal) -> Outcome:
        """Refuses the client, or lets it pass as the anonymous Consumer."""
        if config.anonymous is None:
            status, message, headers = refusal
            return exchange.error(status, message, headers)
        by_id = self._anonymous_by_id.cached(config.anonymous)
        known = by_id if isinstance(by_id, Identity) else self._anonymous_by_username.cached(config.anonymous)
        if isinstance(known, Identity):
            known.impose(exchange)
            return None
        return self._pass_as(exchange, config.anonymous)

    async def settle(self, outcome: Outcome) -> Answer | None:
        """What an outcome comes to, for a phase that waits anyway."""
        return await outcome if isinstance(outcome, Awaitable) else outcome

    async def _pass_as(self, exchange: Exchange, anonymous: str) -> Answer | None:
        identity: Any = None
        if _is_uuid(anonymous):
            identity = await self._anonymous_by_id.get(anonymous)
        if identity is None:
            identity = await self._anonymous_by_username.get(anonymous)
        if identity is None:
            return exchange.error(500, f"anonymous consumer {anonymous} is configured but doesn't exist")
        identity.impose(exchange)
        return None


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4
