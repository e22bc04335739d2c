# SPDX-License-Identifier: Apache-2.0
"""Which tokens does the identity provider give, and are those that are shown its own?

The `Core` of `parts`. Everything here may raise `Refused`, where the provider says no or what it says does not hold, and
`SystemUnavailable`, where it cannot be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.asking import (
    FORM,
    Asked,
    arguments_of,
    form_of,
    headers_of,
    prove_to,
    replayed,
    sorted_pairs,
    where_of,
)
from pylae.plugins.openid_connect.claims import check_contents
from pylae.plugins.openid_connect.parts import Claims, Grant, ProviderClient, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.provider import Provider
from pylae.plugins.openid_connect.settings import Settings
from pylae.plugins.openid_connect.shared import Shared
from pylae.plugins.openid_connect.statements import Statements
from pylae.plugins.openid_connect.verification import (
    check_access_token,
    check_id_token,
    check_signature,
    end_of,
    jwt_of,
    public_jwk,
)
from pylae.sdk import Host
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.exchange import Exchange
from pylae.sdk.http import Endpoint, HttpAnswer, HttpClient
from pylae.sdk.jose import Token
from pylae.sdk.jose.encoding import decode_object

OWN_FAULTS: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
"""Answers of the token endpoint that are about the gateway, not about who calls (RFC 6749, section 5.2)."""
MAX_REMEMBERED: Final = 8_192


class OpenIdCore:
    """What one worker knows of all providers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._http: dict[bool, HttpClient] = {}
        self._granted: Verified[Grant] = Verified(host.now_ms, MAX_REMEMBERED)
        self._granting: Shared[Grant] = Shared()
        self._statements = Statements(host)

    def __repr__(self) -> str:
        return "<openid-connect core>"

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return self._host.now_ms() / 1000

    async def close(self) -> None:
        """Closes idle connections."""
        for http in self._http.values():
            await http.close()

    def provider(self, settings: Settings) -> Provider:
        """Who issues the tokens of a configuration."""
        if settings.provider is None:
            verify = settings.config.ssl_verify is not False
            http = self._http.get(verify)
            if http is None:
                authorities = self._host.trusted_certificates
                http = self._http[verify] = HttpClient(verify=verify, trusted_certificates=authorities, is_cut=False)
            settings.provider = Provider(
                settings.config, http, self._host.now_ms, lambda level, text: self._host.log(level, text)
            )
        return settings.provider

    def client_of(self, exchange: Exchange, settings: Settings) -> ProviderClient:
        """The client of the provider's that this request is for; the first unless `client_arg` names another."""
        if not settings.clients:
            raise SystemUnavailable("configuration of openid-connect", "no `client_id`")
        if len(settings.clients) > 1:
            name = presented.find(exchange, settings.config.client_arg, ("header", "query", "body"))
            return settings.client_by_name.get(name or "", settings.clients[0])
        return settings.clients[0]

    async def metadata(self, settings: Settings) -> Mapping[str, Any]:
        """The provider's metadata."""
        return await self.provider(settings).metadata()

    async def has_endpoint(self, settings: Settings, name: str) -> bool:
        """Does the provider have an endpoint (`userinfo_endpoint`)?"""
        return name in await self.metadata(settings)

    async def may_introspect(self, settings: Settings) -> bool:
        """Can anybody be asked about tokens, and as whom?"""
        return settings.may_introspect and await self.has_endpoint(settings, "introspection_endpoint")

    async def redeem(
        self,
        exchange: Exchange,
        settings: Settings,
        client: ProviderClient,
        method: str,
        arguments: Mapping[str, str],
        *,
        nonce: str | None = None,
    ) -> Grant:
        """Asks the token endpoint, and verifies what it answers; see `parts.Core`."""
        return await self._redeem(settings, client, method, _asked(exchange, settings, arguments), nonce)

    async def granted(
        self, exchange: Exchange, settings: Settings, client: ProviderClient, method: str, arguments: Mapping[str, str]
    ) -> Grant:
        """As `redeem`, for what a client shows with every request: remembered by a digest until the token ends."""
        asked = _asked(exchange, settings, arguments)
        if settings.config.cache_tokens is False:
            return await self._redeem(settings, client, method, asked, None)
        digest = self._granted.digest(
            settings.tag,
            method,
            client.client_id,
            client.secret or "",
            *sorted_pairs(asked.headers),
            "",
            *sorted_pairs(asked.form),
        )
        known = self._granted.get(digest)
        if known is not None:
            return replace(known, replayed_headers={})

        async def grant() -> Grant:
            made = await self._redeem(settings, client, method, asked, None)
            self._granted.keep(digest, made, None, settings.end_ms(self._host.now_ms(), made.expires_at_s))
            return made

        return replace(await self._granting.ask(digest, grant))

    async def _redeem(self, settings: Settings, client: ProviderClient, method: str, asked: Asked, nonce: str | None) -> Grant:
        config, provider = settings.config, self.provider(settings)
        endpoint = await provider.endpoint("token_endpoint")
        asked = asked.copied()
        said = config.token_endpoint_auth_method
        await prove_to(provider, client, said, "token_endpoint", endpoint, asked, self.now_s())
        headers = {"Accept": "application/json", **asked.headers}
        answer = await provider.ask("POST", endpoint, headers, form_of(asked.form), is_repeatable=False)
        response = _token_response(provider, endpoint, answer, is_own=client in settings.clients)
        grant = Grant(method, client, access_token=response["access_token"], response=response)
        id_token, refresh_token = response.get("id_token"), response.get("refresh_token")
        grant.id_token = id_token if isinstance(id_token, str) else None
        grant.refresh_token = refresh_token if isinstance(refresh_token, str) else None
        if nonce is not None and grant.id_token is None:
            raise Unauthorized("the token endpoint gave no id token")
        await self._read_tokens(settings, grant, is_believed=method in (config.ignore_signature or ()), nonce=nonce)
        lasts_s = response.get("expires_in")
        if isinstance(lasts_s, (int, float)) and not isinstance(lasts_s, bool) and 0 < lasts_s < 10**9:
            grant.expires_at_s = self.now_s() + lasts_s
        grant.replayed_headers = replayed(settings, method, answer)
        return grant

    async def read(self, settings: Settings, grant: Grant, *, verify: bool) -> Grant:
        """Fills in the claims of a Grant made of tokens alone; see `parts.Core`."""
        await self._read_tokens(settings, grant, is_believed=not verify, nonce=None, checks_claims=verify)
        return grant

    async def _read_tokens(
        self, settings: Settings, grant: Grant, *, is_believed: bool, nonce: str | None, checks_claims: bool = True
    ) -> None:
        provider, now_s = self.provider(settings), self.now_s()
        clients = settings.clients if grant.client is None else (grant.client,)
        is_believed = is_believed or settings.config.verify_signature is False
        metadata = await provider.metadata() if checks_claims else {}
        token = None if grant.access_token is None else jwt_of(grant.access_token)
        if token is not None:
            if not is_believed:
                grant.access_key = public_jwk(await check_signature(token, settings, provider, clients))
            if checks_claims:
                check_access_token(token, settings, metadata, now_s)
            grant.access_claims = token.claims
            grant.expires_at_s = grant.expires_at_s or end_of(token.claims)
        if grant.id_token is None:
            return
        id_token = jwt_of(grant.id_token)
        if id_token is None:
            raise Unauthorized("malformed id token")
        if not is_believed:
            grant.id_key = public_jwk(await check_signature(id_token, settings, provider, clients))
        if checks_claims:
            check_id_token(id_token, settings, metadata, grant.client, now_s, nonce=nonce, access_token=grant.access_token)
        grant.id_claims = id_token.claims

    async def verified(self, settings: Settings, token: Token, text: str) -> Grant:
        """The Grant of a signed access token that a client shows."""
        config, provider = settings.config, self.provider(settings)
        grant = Grant("bearer", access_token=text)
        if config.verify_signature is not False:
            grant.access_key = public_jwk(await check_signature(token, settings, provider, settings.clients))
        check_access_token(token, settings, await provider.metadata(), self.now_s())
        grant.access_claims = token.claims
        grant.expires_at_s = end_of(token.claims)
        return grant

    async def add_id_token(self, settings: Settings, grant: Grant, text: str) -> None:
        """Adds the id token that a client shows beside an access token, if both are about one user."""
        provider, token = self.provider(settings), jwt_of(text)
        if token is None:
            raise Unauthorized("malformed id token")
        if settings.config.verify_signature is not False:
            grant.id_key = public_jwk(await check_signature(token, settings, provider, settings.clients))
        metadata = await provider.metadata()
        check_id_token(token, settings, metadata, None, self.now_s(), access_token=grant.access_token)
        for said in (grant.access_claims, grant.introspection, grant.user_info):
            if said is not None and "sub" in said and said["sub"] != token.claims.get("sub"):
                raise Unauthorized("the id token is about another user than the access token")
        grant.id_token, grant.id_claims = text, token.claims

    async def introspected(self, exchange: Exchange, settings: Settings, text: str) -> Grant:
        """The Grant of a token that the introspection endpoint says is active."""
        client = self.client_of(exchange, settings) if settings.clients else None
        said, signed = await self._statements.introspected(exchange, settings, self.provider(settings), client, text)
        check_contents(said, settings, self.now_s())
        # What the token itself may say was looked at by nobody here.
        return Grant(
            "introspection", client, access_token=text, introspection=said, introspection_jwt=signed, expires_at_s=end_of(said)
        )

    async def told(self, exchange: Exchange, settings: Settings, text: str) -> tuple[Claims, str | None]:
        """What the userinfo endpoint says of whom a token is for, and as it was signed."""
        return await self._statements.told(exchange, settings, self.provider(settings), text)

    async def add_user_info(self, exchange: Exchange, settings: Settings, grant: Grant) -> None:
        """Adds what the userinfo endpoint says, if it is about the same user."""
        if grant.access_token is None or grant.user_info is not None:
            return
        told, signed = await self.told(exchange, settings, grant.access_token)
        for said in (grant.id_claims, grant.access_claims):
            if said is not None and "sub" in said and said["sub"] != told.get("sub"):
                # OpenID Connect Core, section 5.3.2: else a token could be swapped for another user's.
                raise Unauthorized("userinfo is about another user than the token")
        grant.user_info, grant.user_info_jwt = told, signed

    async def revoke(self, settings: Settings, client: ProviderClient, token: str, hint: str) -> None:
        """Gives a token back; RFC 7009."""
        config, provider = settings.config, self.provider(settings)
        endpoint = await provider.endpoint("revocation_endpoint")
        asked = Asked({}, {config.revocation_token_param_name: token, "token_type_hint": hint})
        said = config.revocation_endpoint_auth_method
        await prove_to(provider, client, said, "revocation_endpoint", endpoint, asked, self.now_s())
        await provider.ask("POST", endpoint, asked.headers | {"Content-Type": FORM}, form_of(asked.form))


def _asked(exchange: Exchange, settings: Settings, arguments: Mapping[str, str]) -> Asked:
    """What the token endpoint is told, the proof of who asks left aside. What a client passes on changes none of it."""
    config = settings.config
    passed = arguments_of(exchange, config.token_post_args_names, config.token_post_args_values, config.token_post_args_client)
    return Asked(
        headers_of(exchange, config.token_headers_names, config.token_headers_values, config.token_headers_client),
        {**passed, **arguments},
    )


def _token_response(provider: Provider, endpoint: Endpoint, answer: HttpAnswer, *, is_own: bool) -> Mapping[str, Any]:
    where = where_of(provider, endpoint)
    try:
        response = decode_object(answer.body)
    except ValueError:
        raise SystemUnavailable(where, f"answered {answer.status} with no JSON object") from None
    if answer.status == 200:
        if not isinstance(response.get("access_token"), str) or not response["access_token"]:
            raise SystemUnavailable(where, "answered without an `access_token`")
        return response
    code = response.get("error")
    code = code if isinstance(code, str) and code.isascii() and code.isprintable() and len(code) < 64 else "no known error"
    if is_own and code in OWN_FAULTS:
        raise SystemUnavailable(where, f"answered `{code}` to the gateway's own client")
    raise TokenRefused(code)
