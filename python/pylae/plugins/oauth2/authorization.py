# SPDX-License-Identifier: Apache-2.0
"""What does the authorization endpoint answer? RFC 6749, sections 4.1.1 and 4.2.1.

Not a browser asks it but the login application of whoever owns the API, with its provision key: it says which user gave
leave, and gets the address to send the browser back to.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from pylae.plugins.oauth2 import pkce
from pylae.plugins.oauth2.answers import GUESSES, UNCACHED, Refused, with_state
from pylae.plugins.oauth2.clients import Claim, Client, Clients
from pylae.plugins.oauth2.parameters import Parameters
from pylae.plugins.oauth2.settings import Settings
from pylae.plugins.oauth2.tokens import Tokens
from pylae.sdk import Answer, Exchange
from pylae.sdk.auth import damping_of

CODE: Final = "code"
TOKEN: Final = "token"  # a response_type
UNKNOWN_ADDRESS: Final = "Invalid redirect_uri that does not match with any redirect_uri created with the application"


class AuthorizationEndpoint:
    """Gives codes, and tokens at once (implicit).

    Args:
        name: Of the plugin, by which failures are counted.
    """

    def __init__(self, name: str, clients: Clients, tokens: Tokens) -> None:
        self._name = name
        self._clients = clients
        self._tokens = tokens

    def __repr__(self) -> str:
        return "<authorization endpoint>"

    async def serve(self, exchange: Exchange, config: Settings) -> Answer:
        """Answers with the address to send the user back to, in `redirect_uri`; whatever went wrong may be said there, too."""
        parameters = Parameters(exchange)
        state = config.state_in(parameters)
        try:
            config.require_https(exchange)
            user_id = config.user_in(parameters)
            claim = Claim(exchange, parameters, config.header)
            client = await self._clients.find(claim)
        except Refused as refused:
            if refused.error in GUESSES and (damping := damping_of(exchange)) is not None:
                damping.failed(self._name, None)
            return refused.answer(exchange, state)
        address = client.redirect_uri(parameters.raw("redirect_uri"))
        is_implicit = parameters.raw("response_type") == TOKEN
        try:
            if address is None:
                raise Refused("invalid_request", UNKNOWN_ADDRESS)
            given = await self._give(exchange, config, parameters, client, user_id, address)
        except Refused as refused:
            # Never to an address that is not registered: then the first that is, or nowhere.
            place = address or client.redirect_uri(None)
            if place is None:
                return refused.answer(exchange, state)
            return _answer(exchange, 400, place, with_state(refused.fields(), state), in_fragment=False)
        return _answer(exchange, 200, address, with_state(given, state), in_fragment=is_implicit)

    async def _give(
        self, exchange: Exchange, config: Settings, parameters: Parameters, client: Client, user_id: str, address: str
    ) -> dict[str, Any]:
        """What stands in the address.

        Raises:
            Refused: nothing is given.
        """
        wanted = parameters.raw("response_type")
        if not ((wanted == CODE and config.gives_codes) or (wanted == TOKEN and config.gives_implicit)):
            raise Refused("unsupported_response_type", "Invalid response_type")
        scope = config.scope_in(parameters)
        service_id = config.service_of(exchange)
        if wanted == TOKEN:
            return await self._tokens.give_token(
                client, service_id, config.token_expiration_s, None, user_id=user_id, scope=scope
            )
        challenge = pkce.challenge_in(parameters, config.pkce, client)
        code = await self._tokens.give_code(
            client,
            address,
            config.plugin_id,
            service_id,
            authenticated_userid=user_id,
            scope=scope,
            challenge=challenge,
        )
        return {CODE: code}


def _answer(exchange: Exchange, status: int, address: str, fields: dict[str, Any], *, in_fragment: bool) -> Answer:
    return exchange.answer(status, {"redirect_uri": _with_fields(address, fields, in_fragment=in_fragment)}, UNCACHED)


def _with_fields(address: str, fields: dict[str, Any], *, in_fragment: bool) -> str:
    """The address with the fields in its query, after what stands there, or in its fragment."""
    encoded = "&".join(f"{name}={quote(str(value), safe='', errors='surrogateescape')}" for name, value in sorted(fields.items()))
    if in_fragment:
        return f"{address}#{encoded}"
    _, mark, query = address.partition("?")
    if query:
        return f"{address}&{encoded}"
    return f"{address.removesuffix(mark)}?{encoded}"
