# SPDX-License-Identifier: Apache-2.0
"""oauth2-introspection: who calls, by what an authorization server of somebody else's says of its token? RFC 7662.

For APIs whose clients get opaque tokens elsewhere. An answer is remembered, by a digest of the token, for `ttl` and never
longer than the token lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pylae.plugins.oauth2_introspection import config as declared
from pylae.plugins.oauth2_introspection.introspection import Introspection
from pylae.plugins.oauth2_introspection.presented import hide, token_of
from pylae.plugins.oauth2_introspection.settings import Decision, Settings
from pylae.sdk import Answer, Exchange, Host, Instance
from pylae.sdk.auth import AuthPlugin, Outcome, Refusal, damping_of, drop_claims, facts_of
from pylae.sdk.entities import Lookup, Missing, Row

MAX_BODY_BYTES: Final = 65_536


class Oauth2Introspection(AuthPlugin):
    """Asks an authorization server whether a token is active."""

    name = "oauth2-introspection"
    version = "3.10.0"
    priority = 1700
    reads_body = MAX_BODY_BYTES
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._introspection = Introspection(host)

    async def stop(self) -> None:
        """Closes idle connections."""
        await self._introspection.close()

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Settings:
        """Splits the configuration into what `access` needs."""
        return Settings(config, instance)

    def access(self, exchange: Exchange, config: Settings) -> Outcome:
        """Authenticates by what was answered before; waits only for an answer that is not known, or not any more."""
        token = token_of(exchange)
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            drop_claims(exchange, (name for name, _ in config.without_claims))
            return None
        if self.is_settled(exchange, config):
            drop_claims(exchange, (name for name, _ in config.without_claims))
            if config.hides:
                hide(exchange)
            return None
        if token is None:
            return self._refuse(exchange, config, config.missing)
        if config.hides:
            hide(exchange)
        if not token:
            return self._refuse(exchange, config, config.invalid)
        digest = self._introspection.digest(exchange, config, token)
        decision = self._introspection.known(digest, config)
        if isinstance(decision, Decision):
            consumer: Row | Missing | None = None
            if decision.name is not None:
                consumer = self._consumers(config).cached(decision.name)
            if isinstance(consumer, Missing):
                return self._accept_later(exchange, config, decision, decision.name)
            return self._accept(exchange, decision, consumer)
        if decision is not None:
            return self._refuse(exchange, config, config.invalid)
        return self._ask(exchange, config, token, digest)

    def _consumers(self, config: Settings) -> Lookup:
        return self.consumers_by_username if config.by_username else self.consumers_by_custom_id

    async def _ask(self, exchange: Exchange, config: Settings, token: str, digest: bytes) -> Answer | None:
        decision = await self._introspection.ask(exchange, config, token, digest)
        if decision is None:
            return await self.settle(self._refuse(exchange, config, config.invalid))
        return await self._accept_later(exchange, config, decision, decision.name)

    async def _accept_later(self, exchange: Exchange, config: Settings, decision: Decision, name: str | None) -> Answer | None:
        consumer: Row | None = None if name is None else await self._consumers(config).get(name)
        return await self.settle(self._accept(exchange, decision, consumer))

    def _accept(self, exchange: Exchange, decision: Decision, consumer: Mapping[str, object] | None) -> Outcome:
        decision.identity_of(consumer).impose(exchange)
        exchange.service.request.set_headers(decision.fields)
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        facts.claims = decision.claims
        facts.subject, facts.issuer = decision.subject, decision.issuer
        facts.scopes = decision.scopes
        facts.expires_at_s = decision.ends_at_s
        return None

    def _refuse(self, exchange: Exchange, config: Settings, refusal: Refusal) -> Outcome:
        """Refuses in the words of RFC 6750, or lets the client pass as the anonymous Consumer."""
        if refusal is config.invalid and (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        if config.anonymous is not None:
            # What a client says of itself under these names would be believed.
            exchange.service.request.set_headers(config.without_claims)
            return self.refuse(exchange, config, refusal)
        status, message, headers = refusal
        error = "invalid_token" if refusal is config.invalid else "invalid_request"
        return exchange.answer(status, {"error": error, "error_description": message}, headers)
