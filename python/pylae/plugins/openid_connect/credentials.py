# SPDX-License-Identifier: Apache-2.0
"""Which Grant does a credential of the request bring? The first that is found counts, in Kong's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.asking import with_secret
from pylae.plugins.openid_connect.core import OpenIdCore
from pylae.plugins.openid_connect.decisions import BY_TOKEN
from pylae.plugins.openid_connect.parts import Grant, Locked, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.plugins.openid_connect.verification import jwt_of
from pylae.sdk import Exchange, Host
from pylae.sdk.auth import damping_of
from pylae.sdk.entities import CallFailed
from pylae.sdk.jose import Token

NO_SUCH_TABLE: Final = "invalid unique"
"""How the name of an error begins that says so: no plugin brought the table."""


class Credentials:
    """Finds them in requests.

    Args:
        host: Knows the tokens of the gateway's own oauth2 plugin.
        core: Asks the provider about all others.
    """

    def __init__(self, host: Host, core: OpenIdCore) -> None:
        self._host = host
        self._core = core
        self._has_own_tokens = True
        self._own_tokens = host.entities.lookup("oauth2_tokens", "access_token", {"credential": "oauth2_credentials"})

    def __repr__(self) -> str:
        return "<credentials>"

    async def find(self, exchange: Exchange, settings: Settings) -> Grant | None:
        """The Grant of a credential in the request; None without one."""
        methods, config = settings.methods, settings.config
        if methods & BY_TOKEN:
            text = presented.bearer_token(exchange, settings)
            if text is not None:
                return await self._by_token(exchange, settings, text)
        if "refresh_token" in methods and config.refresh_token_param_name and settings.clients:
            text = presented.find(exchange, config.refresh_token_param_name, config.refresh_token_param_type or ())
            if text is not None:
                client = self._core.client_of(exchange, settings)
                asked = {"grant_type": "refresh_token", "refresh_token": text}
                return await self._completed(
                    exchange, settings, await self._core.granted(exchange, settings, client, "refresh_token", asked)
                )
        return await self._by_pairs(exchange, settings)

    async def _by_token(self, exchange: Exchange, settings: Settings, text: str) -> Grant:
        token = jwt_of(text)
        if token is not None and "bearer" in settings.methods:
            grant = await self._core.verified(settings, token, text)
            if settings.config.introspect_jwt_tokens:
                asked = await self._core.introspected(exchange, settings, text)
                grant.introspection, grant.introspection_jwt = asked.introspection, asked.introspection_jwt
        else:
            grant = await self._by_reference(exchange, settings, token, text)
        name = settings.config.id_token_param_name
        if name and (id_token := presented.find(exchange, name, settings.config.id_token_param_type or ())):
            await self._core.add_id_token(settings, grant, id_token)
        return grant

    async def _by_reference(self, exchange: Exchange, settings: Settings, token: Token | None, text: str) -> Grant:
        """The Grant of a token that somebody has to be asked about."""
        methods = settings.methods
        if "kong_oauth2" in methods and token is None:
            grant = await self._own(exchange, text)
            if grant is not None:
                return grant
        if "introspection" in methods and await self._core.may_introspect(settings):
            return await self._core.introspected(exchange, settings, text)
        if "userinfo" in methods and await self._core.has_endpoint(settings, "userinfo_endpoint"):
            grant = Grant("userinfo", access_token=text)
            grant.user_info, grant.user_info_jwt = await self._core.told(exchange, settings, text)
            return grant
        raise Unauthorized("a token that none of the methods of authentication takes")

    async def _own(self, exchange: Exchange, text: str) -> Grant | None:
        """The Grant of a token that the oauth2 plugin of this gateway gave out."""
        row: Mapping[str, Any] | None = None
        if self._has_own_tokens:
            try:
                row = await self._own_tokens.get(text)
            except CallFailed as failure:
                if not failure.name.startswith(NO_SUCH_TABLE):
                    raise
                self._has_own_tokens = False
                self._host.log("notice", "openid-connect: `kong_oauth2` finds no tokens, as the plugin oauth2 is not loaded")
        if row is None:
            return None
        service = row.get("service")
        if service is not None and service["id"] != exchange.service.id:
            raise Unauthorized("a token for another Service")
        ends_s = row["created_at"] + row["expires_in"] if row.get("expires_in") else None
        consumer = (row.get("credential") or {}).get("consumer")
        if consumer is None or (ends_s is not None and ends_s <= self._core.now_s()):
            raise Unauthorized("the token has ended")
        said = {"scope": row.get("scope"), "sub": row.get("authenticated_userid")}
        return Grant(
            "kong_oauth2",
            access_token=text,
            access_claims={name: value for name, value in said.items() if value is not None},
            consumer_id=consumer["id"],
            expires_at_s=ends_s,
        )

    async def _by_pairs(self, exchange: Exchange, settings: Settings) -> Grant | None:
        refused: TokenRefused | None = None
        damping = damping_of(exchange)
        for method in ("password", "client_credentials"):
            pair = self._pair(exchange, settings, method)
            if pair is None:
                continue
            if damping is not None and damping.is_locked("openid-connect", pair[0]):
                raise Locked
            try:
                return await self._by_pair(exchange, settings, method, pair)
            except TokenRefused as refusal:
                # `Authorization: Basic` may be meant for the other method; each name that was tried counts.
                if damping is not None and refused is not None:
                    damping.failed("openid-connect", refused.name)
                refused, refusal.name = refusal, pair[0]
        if refused is not None:
            raise refused
        return None

    def _pair(self, exchange: Exchange, settings: Settings, method: str) -> tuple[str, str] | None:
        if method not in settings.methods:
            return None
        is_password = method == "password"
        if is_password and not settings.clients:
            return None
        config = settings.config
        places = (config.password_param_type if is_password else config.client_credentials_param_type) or ()
        pair = presented.basic_pair(exchange) if "header" in places else None
        names = ("username", "password") if is_password else ("client_id", "client_secret")
        return pair or presented.pair_of_arguments(exchange, *names, places)

    async def _by_pair(self, exchange: Exchange, settings: Settings, method: str, pair: tuple[str, str]) -> Grant:
        if any(not text.isprintable() or len(text) > presented.MAX_TOKEN_CHARACTERS for text in pair):
            raise Unauthorized("malformed credentials")
        config, arguments = settings.config, {"grant_type": method}
        # There is no user whose id token could be asked for.
        scopes = [scope for scope in config.scopes or () if method == "password" or scope != "openid"]
        if scopes:
            arguments["scope"] = " ".join(scopes)
        if config.audience:
            arguments["audience"] = " ".join(config.audience)
        if method == "password":
            client = self._core.client_of(exchange, settings)
            arguments |= {"username": pair[0], "password": pair[1]}
        else:
            client = with_secret(pair)
        return await self._completed(exchange, settings, await self._core.granted(exchange, settings, client, method, arguments))

    async def _completed(self, exchange: Exchange, settings: Settings, grant: Grant) -> Grant:
        """Has the endpoint asked about an opaque token where what it says matters."""
        is_known = grant.access_claims is not None or grant.id_claims is not None or grant.access_token is None
        may_ask = not is_known and settings.needs_claims and "introspection" in settings.methods
        if may_ask and await self._core.may_introspect(settings):
            asked = await self._core.introspected(exchange, settings, grant.access_token or "")
            grant.introspection, grant.introspection_jwt = asked.introspection, asked.introspection_jwt
        return grant
