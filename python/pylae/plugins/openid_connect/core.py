# SPDX-License-Identifier: Apache-2.0
"""What does the identity provider say of a token, and which tokens does it give?

Everything here may raise `Refused`, where the provider says no or what it says does not hold, and `SystemUnavailable`,
where it cannot be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from pylae.plugins.openid_connect import presented
from pylae.plugins.openid_connect.asking import FORM, arguments_of, form_of, headers_of, replayed, sorted_pairs
from pylae.plugins.openid_connect.client_auth import choose, prove
from pylae.plugins.openid_connect.parts import Claims, Grant, ProviderClient, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.provider import Provider
from pylae.plugins.openid_connect.settings import Settings
from pylae.plugins.openid_connect.verification import (
    check_access_token,
    check_id_token,
    check_signature,
    issuers_of,
    public_jwk,
)
from pylae.sdk import Host
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.exchange import Exchange
from pylae.sdk.http import Endpoint, HttpAnswer, HttpClient
from pylae.sdk.jose import JoseError, Malformed, Token, check_issuer, check_times, numeric_date, parse
from pylae.sdk.jose.encoding import decode_object

OWN_FAULTS: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
"""Answers of the token endpoint that are about the gateway, not about who calls (RFC 6749, section 5.2)."""
MAX_REMEMBERED: Final = 8_192
INTROSPECTED_TYPES: Final = ("application/jwt", "application/token-introspection+jwt")


def jwt_of(text: str) -> Token | None:
    """The token, if it is a signed one; None for an opaque one."""
    if text.count(".") != 2:
        return None
    try:
        return parse(text)
    except Malformed:
        return None


class OpenIdCore:
    """What one worker knows of all providers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._http: dict[bool, HttpClient] = {}
        # By provider: two configurations of one issuer ask for its keys once.
        self._introspected: Verified[tuple[Claims, str | None]] = Verified(host.now_ms, MAX_REMEMBERED)
        self._refused: Verified[str] = Verified(host.now_ms, MAX_REMEMBERED)
        self._told: Verified[tuple[Claims, str | None]] = Verified(host.now_ms, MAX_REMEMBERED)
        self._granted: Verified[Grant] = Verified(host.now_ms, MAX_REMEMBERED)

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
        config, provider = settings.config, self.provider(settings)
        endpoint = await provider.endpoint("token_endpoint")
        headers = headers_of(exchange, config.token_headers_names, config.token_headers_values, config.token_headers_client)
        form = {
            **arguments_of(exchange, config.token_post_args_names, config.token_post_args_values, config.token_post_args_client),
            **arguments,
        }
        await self._prove(provider, client, config.token_endpoint_auth_method, "token_endpoint", endpoint, headers, form)
        answer = await provider.ask(
            "POST", endpoint, {"Accept": "application/json", **headers}, form_of(form), is_repeatable=False
        )
        response = self._token_response(provider, endpoint, answer, is_own=client in settings.clients)
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

    def _token_response(self, provider: Provider, endpoint: Endpoint, answer: HttpAnswer, *, is_own: bool) -> Mapping[str, Any]:
        where = f"{provider.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"
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

    async def granted(
        self,
        exchange: Exchange,
        settings: Settings,
        client: ProviderClient,
        method: str,
        arguments: Mapping[str, str],
    ) -> Grant:
        """As `redeem`, for what a client shows with every request: remembered by a digest until the token ends."""
        config = settings.config
        digest = self._granted.digest(settings.tag, method, client.client_id, client.secret or "", *sorted_pairs(arguments))
        known = self._granted.get(digest) if config.cache_tokens else None
        if known is not None:
            return replace(known, replayed_headers={})
        grant = await self.redeem(exchange, settings, client, method, arguments)
        if config.cache_tokens:
            self._granted.keep(digest, grant, None, self._ends_ms(settings, grant.expires_at_s))
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
            grant.expires_at_s = grant.expires_at_s or _end(token.claims)
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
        grant = Grant("bearer", None, access_token=text)
        if config.verify_signature is not False:
            grant.access_key = public_jwk(await check_signature(token, settings, provider, settings.clients))
        check_access_token(token, settings, await provider.metadata(), self.now_s())
        grant.access_claims = token.claims
        grant.expires_at_s = _end(token.claims)
        return grant

    async def introspected(self, exchange: Exchange, settings: Settings, text: str) -> Grant:
        """The Grant of a token that the introspection endpoint says is active; RFC 7662, RFC 9701."""
        config, provider = settings.config, self.provider(settings)
        client = self.client_of(exchange, settings)
        digest = self._introspected.digest(settings.tag, client.client_id, text)
        if (why := self._refused.get(digest)) is not None:
            raise Unauthorized(why)
        known = self._introspected.get(digest) if config.cache_introspection else None
        if known is None:
            try:
                known = await self._introspect(exchange, settings, provider, client, text)
            except Unauthorized as refusal:
                if config.cache_ttl_neg:
                    self._refused.keep(digest, refusal.reason, None, self._host.now_ms() + int(config.cache_ttl_neg * 1000))
                raise
            if config.cache_introspection:
                self._introspected.keep(digest, known, None, self._ends_ms(settings, _end(known[0])))
        claims, signed = known
        token = jwt_of(text)
        return Grant(
            "introspection",
            client,
            access_token=text,
            access_claims=None if token is None else token.claims,
            introspection=claims,
            introspection_jwt=signed,
            expires_at_s=_end(claims),
        )

    async def _introspect(
        self, exchange: Exchange, settings: Settings, provider: Provider, client: ProviderClient, text: str
    ) -> tuple[Claims, str | None]:
        config = settings.config
        endpoint = await provider.endpoint("introspection_endpoint")
        headers = headers_of(
            exchange, config.introspection_headers_names, config.introspection_headers_values, config.introspection_headers_client
        )
        form = arguments_of(
            exchange,
            config.introspection_post_args_names,
            config.introspection_post_args_values,
            config.introspection_post_args_client,
            config.introspection_post_args_client_headers,
        )
        form[config.introspection_token_param_name] = text
        if config.introspection_hint:
            form["token_type_hint"] = config.introspection_hint
        method = config.introspection_endpoint_auth_method
        await self._prove(provider, client, method, "introspection_endpoint", endpoint, headers, form)
        answer = await provider.ask("POST", endpoint, {"Accept": config.introspection_accept, **headers}, form_of(form))
        where = f"{provider.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        if answer.status != 200:
            raise SystemUnavailable(where, f"answered {answer.status}")
        claims, signed = await self._signed_or_json(settings, provider, client, answer, where)
        if signed is not None:
            claims = claims.get("token_introspection", claims)
            if not isinstance(claims, dict):
                raise SystemUnavailable(where, "answered with a token that holds no introspection")
        self._judge_introspection(settings, claims, await provider.metadata())
        return claims, signed

    def _judge_introspection(self, settings: Settings, claims: Claims, metadata: Mapping[str, Any]) -> None:
        config = settings.config
        if config.introspection_check_active is not False and claims.get("active") is not True:
            raise Unauthorized("the introspection endpoint says that the token is not active")
        if config.verify_claims is False:
            return
        try:
            check_times(claims, self.now_s(), skew_s=settings.leeway_s)
            if "iss" in claims:
                check_issuer(claims, issuers_of(settings, metadata))
        except JoseError as refusal:
            raise Unauthorized(str(refusal)) from None

    async def told(self, exchange: Exchange, settings: Settings, text: str) -> tuple[Claims, str | None]:
        """What the userinfo endpoint says of whom a token is for; OpenID Connect Core, section 5.3."""
        config, provider = settings.config, self.provider(settings)
        digest = self._told.digest(settings.tag, text)
        known = self._told.get(digest) if config.cache_user_info else None
        if known is not None:
            return known
        endpoint = await provider.endpoint("userinfo_endpoint")
        query = arguments_of(
            exchange, config.userinfo_query_args_names, config.userinfo_query_args_values, config.userinfo_query_args_client
        )
        if query:
            endpoint = replace(endpoint, query="&".join(part for part in (endpoint.query, urlencode(query)) if part))
        headers = headers_of(
            exchange, config.userinfo_headers_names, config.userinfo_headers_values, config.userinfo_headers_client
        )
        headers |= {"Accept": config.userinfo_accept, "Authorization": f"Bearer {text}"}
        answer = await provider.ask("GET", endpoint, headers)
        where = f"{provider.name} at {endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        if answer.status in (400, 401, 403):
            raise Unauthorized(f"the userinfo endpoint answered {answer.status}")
        if answer.status != 200:
            raise SystemUnavailable(where, f"answered {answer.status}")
        told = await self._signed_or_json(settings, provider, None, answer, where)
        if not isinstance(told[0].get("sub"), str):
            raise SystemUnavailable(where, "answered without a `sub`")
        if config.cache_user_info:
            token = jwt_of(text)
            self._told.keep(digest, told, None, self._ends_ms(settings, None if token is None else _end(token.claims)))
        return told

    async def _signed_or_json(
        self, settings: Settings, provider: Provider, client: ProviderClient | None, answer: HttpAnswer, where: str
    ) -> tuple[dict[str, Any], str | None]:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in INTROSPECTED_TYPES:
            text = answer.body.decode("ascii", "replace").strip()
            token = jwt_of(text)
            if token is None:
                raise SystemUnavailable(where, "answered with a malformed token")
            clients = settings.clients if client is None else (client,)
            try:
                await check_signature(token, settings, provider, clients)
            except Unauthorized as refusal:
                raise SystemUnavailable(where, f"answered with a token of another's: {refusal.reason}") from None
            return token.claims, text
        try:
            return decode_object(answer.body), None
        except ValueError:
            raise SystemUnavailable(where, "answered with no JSON object") from None

    async def revoke(self, settings: Settings, client: ProviderClient, token: str, hint: str) -> None:
        """Gives a token back; RFC 7009."""
        config, provider = settings.config, self.provider(settings)
        endpoint = await provider.endpoint("revocation_endpoint")
        headers: dict[str, str] = {}
        form = {config.revocation_token_param_name: token, "token_type_hint": hint}
        method = config.revocation_endpoint_auth_method
        await self._prove(provider, client, method, "revocation_endpoint", endpoint, headers, form)
        await provider.ask("POST", endpoint, headers | {"Content-Type": FORM}, form_of(form))

    async def _prove(
        self,
        provider: Provider,
        client: ProviderClient,
        said: str | None,
        name: str,
        endpoint: Endpoint,
        headers: MutableMapping[str, str],
        form: MutableMapping[str, str],
    ) -> None:
        metadata = await provider.metadata()
        supported = metadata.get(f"{name}_auth_methods_supported") or metadata.get("token_endpoint_auth_methods_supported")
        audience = f"{endpoint.scheme}://{endpoint.authority}{endpoint.path}"
        prove(client, choose(client, said, supported), audience, self.now_s(), headers, form)
        headers["Content-Type"] = FORM

    def _ends_ms(self, settings: Settings, ends_s: float | None) -> int:
        """How long an answer may be remembered, in milliseconds since the epoch: never longer than what it is about lasts."""
        config, now_ms = settings.config, self._host.now_ms()
        lasts_s = config.cache_ttl if ends_s is None else max(ends_s - now_ms / 1000, 0)
        if config.cache_ttl_max:
            lasts_s = min(lasts_s, config.cache_ttl_max)
        # 0 would stand for ever.
        return max(now_ms + int(lasts_s * 1000), 1)


def _end(claims: Claims) -> float | None:
    try:
        return numeric_date(claims, "exp")
    except JoseError:
        return None
