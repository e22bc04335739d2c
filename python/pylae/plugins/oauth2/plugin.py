# SPDX-License-Identifier: Apache-2.0
"""oauth2: how are access tokens given out, and who calls with one?

For APIs that act for users whom an application of your own logs in. The endpoints are on the Routes themselves: any path
that ends in `/oauth2/authorize` or `/oauth2/token`. Everything else needs a token. RFC 6749, RFC 6750, RFC 7636.
"""

from __future__ import annotations

from typing import Final

from pylae.plugins.oauth2 import config as declared
from pylae.plugins.oauth2.answers import Refused, TokenRefusal
from pylae.plugins.oauth2.authorization import AuthorizationEndpoint
from pylae.plugins.oauth2.clients import Clients
from pylae.plugins.oauth2.entities import Oauth2AuthorizationCode, Oauth2Credential, Oauth2Token
from pylae.plugins.oauth2.grants import TokenEndpoint
from pylae.plugins.oauth2.parameters import Parameters, may_be_key
from pylae.plugins.oauth2.presented import presented_by
from pylae.plugins.oauth2.settings import Settings
from pylae.plugins.oauth2.tokens import Token, Tokens
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import AuthPlugin, Outcome, damping_of, drop_claims, facts_of
from pylae.sdk.entities import Missing, Row

AUTHORIZE: Final = "/oauth2/authorize"
TOKEN: Final = "/oauth2/token"  # a path
ALLOWED: Final = {"Allow": "POST"}
MAX_BODY_BYTES: Final = 1_048_576

TOLD: Final = ("X-Authenticated-Scope", "X-Authenticated-UserId")
"""What upstreams are told of a token."""


class Oauth2(AuthPlugin):
    """Gives clients OAuth 2.0 tokens, and asks for them."""

    name = "oauth2"
    version = "3.10.0"
    priority = 1400
    reads_body = MAX_BODY_BYTES
    Config = declared.Config
    entities = (Oauth2Credential, Oauth2AuthorizationCode, Oauth2Token)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        clients, self._tokens = Clients(host), Tokens(host)
        self._by_access_token = self._tokens.by_access_token
        self._authorization = AuthorizationEndpoint(self.name, clients, self._tokens)
        self._grants = TokenEndpoint(self.name, clients, self._tokens)
        self._now_ms = host.now_ms

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Settings:
        """Splits the configuration into what `access` compares."""
        return Settings(config, instance)

    def access(self, exchange: Exchange, config: Settings) -> Outcome:
        """Serves the endpoints; else authenticates from memory, and waits only for a token never seen before."""
        path = exchange.request.path.removesuffix("/")
        if path.endswith(TOKEN):
            return self._serve(exchange, config, "token", self._grants)
        if path.endswith(AUTHORIZE):
            return self._serve(exchange, config, "authorization", self._authorization)
        presented = presented_by(exchange, config.header)
        if self.is_settled(exchange, config):
            # Somebody else has said who calls; what the client says of itself, and its token, go no further all the same.
            drop_claims(exchange, TOLD)
            if config.hide_credentials:
                presented.hide(exchange, config.header)
            return None
        if not presented.tokens:
            return self._refuse(exchange, config, config.missing)
        if config.hide_credentials:
            # Who passes as the anonymous Consumer all the same leaves it here, too.
            presented.hide(exchange, config.header)
        if len(presented.tokens) > 1:
            return self._refuse(exchange, config, config.several)
        (text,) = presented.tokens
        token = self._by_access_token.cached(text) if may_be_key(text) else None
        consumer = MISSING if token is None or token is MISSING else self._consumer_of(token)
        if token is MISSING or (token is not None and consumer is MISSING):
            return self._authenticate_later(exchange, config, text)
        return self._authenticate(exchange, config, token, consumer)

    def _serve(self, exchange: Exchange, config: Settings, name: str, endpoint: AuthorizationEndpoint | TokenEndpoint) -> Outcome:
        method = exchange.request.method
        if method != "POST":
            refused = Refused("invalid_method", f"The HTTP method {method} is invalid for the {name} endpoint", 405, ALLOWED)
            return refused.answer(exchange, config.state_in(Parameters(exchange)))
        return endpoint.serve(exchange, config)

    def _consumer_of(self, token: Token) -> Row | Missing | None:
        if token.consumer_id is None:
            return None
        consumer: Row | Missing | None = self.consumers_by_id.cached(token.consumer_id)
        return consumer

    async def _authenticate_later(self, exchange: Exchange, config: Settings, text: str) -> Answer | None:
        token: Token | None = await self._by_access_token.get(text)
        consumer: Row | None = None
        if token is not None and token.consumer_id is not None:
            consumer = await self.consumers_by_id.get(token.consumer_id)
        return await self.settle(self._authenticate(exchange, config, token, consumer))

    def _authenticate(self, exchange: Exchange, config: Settings, token: Token | None, consumer: Row | Missing | None) -> Outcome:
        if token is None or (token.ends_at_ms and token.ends_at_ms <= self._now_ms()):
            return self._refuse(exchange, config, config.invalid)
        if token.service_id is None:
            if not config.is_global:
                return self._refuse(exchange, config, config.is_of_all)
        elif token.service_id != exchange.service.id:
            return self._refuse(exchange, config, config.invalid)
        if consumer is None or isinstance(consumer, Missing):
            return self.accept(exchange, None)
        self.accept(exchange, token.identity_of(consumer))
        exchange.service.request.set_headers(token.told)
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        facts.subject = token.user_id
        facts.scopes = tuple((token.scope or "").split())
        facts.expires_at_s = token.ends_at_ms / 1000 if token.ends_at_ms else None
        return None

    def _refuse(self, exchange: Exchange, config: Settings, refusal: TokenRefusal) -> Outcome:
        """Refuses with plain JSON, whatever the client accepts, or lets the client pass as the anonymous Consumer."""
        if refusal is not config.missing and (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        if config.anonymous is None:
            return exchange.answer(refusal.status, refusal.body, refusal.headers)
        exchange.service.request.set_headers([(name, None) for name in TOLD])
        return self.refuse(exchange, config, (refusal.status, refusal.body["error_description"], refusal.headers))
