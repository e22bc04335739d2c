# SPDX-License-Identifier: Apache-2.0
"""What does the token endpoint answer? RFC 6749, sections 4.1.3, 4.3.2, 4.4.2 and 6."""

from __future__ import annotations

from typing import Any, Final

from pylae.plugins.oauth2 import pkce
from pylae.plugins.oauth2.answers import GUESSES, UNCACHED, Refused, with_state
from pylae.plugins.oauth2.authorization import UNKNOWN_ADDRESS
from pylae.plugins.oauth2.clients import Claim, Client, Clients
from pylae.plugins.oauth2.parameters import Parameters
from pylae.plugins.oauth2.settings import Settings
from pylae.plugins.oauth2.tokens import Tokens, is_code_for
from pylae.sdk import Answer, Exchange
from pylae.sdk.auth import damping_of
from pylae.sdk.entities import Row

AUTHORIZATION_CODE: Final = "authorization_code"
CLIENT_CREDENTIALS: Final = "client_credentials"
PASSWORD: Final = "password"  # a grant_type
REFRESH_TOKEN: Final = "refresh_token"  # likewise
_WRONG_CODE: Final = ("invalid_request", "Invalid code")
_WRONG_REFRESH_TOKEN: Final = ("invalid_request", "Invalid refresh_token")


class TokenEndpoint:
    """Gives access tokens.

    Args:
        name: Of the plugin, by which failures are counted.
    """

    def __init__(self, name: str, clients: Clients, tokens: Tokens) -> None:
        self._name = name
        self._clients = clients
        self._tokens = tokens

    def __repr__(self) -> str:
        return "<token endpoint>"

    async def serve(self, exchange: Exchange, config: Settings) -> Answer:
        """Answers with a token, or why there is none."""
        parameters = Parameters(exchange)
        state = config.state_in(parameters)
        claim = Claim(exchange, parameters, config.header)
        damping = damping_of(exchange)
        if damping is not None and claim.client_id is not None and damping.is_locked(self._name, claim.client_id):
            return damping.refusal(exchange)
        try:
            given = await self._give(exchange, config, parameters, claim)
        except Refused as refused:
            if damping is not None and refused.error in GUESSES:
                damping.failed(self._name, claim.client_id)
            return refused.answer(exchange, state)
        return exchange.answer(200, with_state(given, state), UNCACHED)

    async def _give(self, exchange: Exchange, config: Settings, parameters: Parameters, claim: Claim) -> dict[str, Any]:
        config.require_https(exchange)
        grant = parameters.raw("grant_type")
        offered = {
            AUTHORIZATION_CODE: config.gives_codes,
            CLIENT_CREDENTIALS: config.gives_to_clients,
            PASSWORD: config.gives_for_passwords,
            REFRESH_TOKEN: True,
        }
        if not isinstance(grant, str) or not offered.get(grant, False):
            raise Refused("unsupported_grant_type", "Invalid grant_type")
        client = await self._clients.find(claim)
        if parameters.has("redirect_uri") and client.redirect_uri(parameters.raw("redirect_uri")) is None:
            raise Refused("invalid_request", UNKNOWN_ADDRESS)
        await self._clients.authenticate(claim, client)
        if grant == AUTHORIZATION_CODE:
            return await self._for_code(exchange, config, parameters, client)
        if grant == REFRESH_TOKEN:
            return await self._for_refresh_token(exchange, config, parameters, client)
        if grant == PASSWORD:
            return await self._new(exchange, config, client, config.user_in(parameters), config.scope_in(parameters))
        return await self._for_itself(exchange, config, parameters, client)

    async def _new(
        self,
        exchange: Exchange,
        config: Settings,
        client: Client,
        user_id: str | None,
        scope: str | None,
        *,
        refreshes: bool = True,
    ) -> dict[str, Any]:
        return await self._tokens.give_token(
            client,
            config.service_of(exchange),
            config.token_expiration_s,
            config.refresh_token_ttl_s if refreshes else None,
            user_id=user_id,
            scope=scope,
        )

    async def _for_itself(self, exchange: Exchange, config: Settings, parameters: Parameters, client: Client) -> dict[str, Any]:
        """Client credentials; for a user only if the login application says so."""
        if client.kind == "public":
            # Whoever knows its id, and everybody may, would be the Consumer.
            raise Refused("unauthorized_client", "client_credentials is disallowed for public clients")
        user_id = config.user_in(parameters) if parameters.has("authenticated_userid") else None
        return await self._new(exchange, config, client, user_id, config.scope_in(parameters), refreshes=False)

    async def _for_code(self, exchange: Exchange, config: Settings, parameters: Parameters, client: Client) -> dict[str, Any]:
        code = parameters.key("code")
        row = None if code is None else await self._tokens.find_code(code)
        if code is None or row is None or not _is_for(row, exchange, config, client):
            raise Refused(*_WRONG_CODE)
        if (row.get("plugin") or {}).get("id") not in (None, config.plugin_id):
            raise Refused(*_WRONG_CODE)
        address = client.redirect_uri(parameters.raw("redirect_uri"))
        if address is None or not is_code_for(code, address):
            raise Refused(*_WRONG_CODE)
        pkce.check_verifier(parameters, row.get("challenge"), config.pkce, client)
        if not await self._tokens.use_up_code(code):
            raise Refused(*_WRONG_CODE)
        return await self._new(exchange, config, client, row.get("authenticated_userid"), row.get("scope"))

    async def _for_refresh_token(
        self, exchange: Exchange, config: Settings, parameters: Parameters, client: Client
    ) -> dict[str, Any]:
        refresh_token = parameters.key("refresh_token")
        row = None if refresh_token is None else await self._tokens.find_refresh_token(refresh_token)
        if refresh_token is None or row is None or not _is_for(row, exchange, config, client):
            raise Refused(*_WRONG_REFRESH_TOKEN)
        scope: str | None = row.get("scope")
        _check_scope(parameters, scope)
        if config.reuses_refresh_tokens:
            renewed = await self._tokens.renew(row, config.token_expiration_s)
            if renewed is None:
                raise Refused(*_WRONG_REFRESH_TOKEN)
            return renewed
        if not await self._tokens.use_up_refresh_token(refresh_token):
            raise Refused(*_WRONG_REFRESH_TOKEN)
        return await self._new(exchange, config, client, row.get("authenticated_userid"), scope)


def _is_for(row: Row, exchange: Exchange, config: Settings, client: Client) -> bool:
    """Was it given to this client, and for this Service?"""
    service_id = (row.get("service") or {}).get("id")
    if service_id is None and not config.is_global and exchange.service.id is not None:
        return False
    return (row["credential"] or {}).get("id") == client.id and service_id in (None, exchange.service.id)


def _check_scope(parameters: Parameters, granted: str | None) -> None:
    """Refuses scopes that the user gave no leave for."""
    asked = parameters.raw("scope")
    if asked is None:
        return
    if not isinstance(asked, str):
        raise Refused("invalid_scope", "scope must be a string")
    if not set(asked.split()) <= set((granted or "").split()):
        raise Refused("invalid_scope", "Scope mismatch")
