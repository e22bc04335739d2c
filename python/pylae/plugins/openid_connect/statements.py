# SPDX-License-Identifier: Apache-2.0
"""What does the provider say of a token, or of whom it is for, when it is asked? RFC 7662; OpenID Connect Core, section 5.3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from pylae.plugins.openid_connect.asking import Asked, arguments_of, form_of, headers_of, prove_to, sorted_pairs, where_of
from pylae.plugins.openid_connect.parts import Claims, ProviderClient, Unauthorized
from pylae.plugins.openid_connect.provider import Provider
from pylae.plugins.openid_connect.settings import Settings
from pylae.plugins.openid_connect.shared import Shared
from pylae.plugins.openid_connect.verification import check_signature, end_of, issuers_of, jwt_of
from pylae.sdk import Host
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.exchange import Exchange
from pylae.sdk.http import HttpAnswer
from pylae.sdk.jose import JoseError, check_audience, check_issuer, check_times
from pylae.sdk.jose.encoding import decode_object

MAX_REMEMBERED: Final = 8_192
SIGNED_TYPES: Final = ("application/jwt", "application/token-introspection+jwt")

Said = tuple[Claims, str | None]
"""What was said, and as it was signed, if it was."""


class Statements:
    """What one worker was told, by digest."""

    def __init__(self, host: Host) -> None:
        self._now_ms = host.now_ms
        self._introspected: Verified[Said] = Verified(host.now_ms, MAX_REMEMBERED)
        self._refused: Verified[str] = Verified(host.now_ms, MAX_REMEMBERED)
        self._told: Verified[Said] = Verified(host.now_ms, MAX_REMEMBERED)
        self._asking: Shared[Said] = Shared()

    def __repr__(self) -> str:
        return "<statements>"

    async def introspected(
        self, exchange: Exchange, settings: Settings, provider: Provider, client: ProviderClient | None, text: str
    ) -> Said:
        """What the introspection endpoint says of an active token.

        Raises:
            Unauthorized: it is not active, or another issuer's.
        """
        config, asked = settings.config, _introspection(exchange, settings, text)

        async def ask() -> Said:
            return await self._introspect(settings, provider, client, asked)

        who = "" if client is None else client.client_id
        digest = self._introspected.digest(
            settings.tag, "introspection", who, *sorted_pairs(asked.headers), "", *sorted_pairs(asked.form)
        )
        if (why := self._refused.get(digest)) is not None:
            raise Unauthorized(why)
        if config.cache_introspection is False:
            return await ask()
        known = self._introspected.get(digest)
        if known is not None:
            return known
        try:
            known = await self._asking.ask(digest, ask)
        except Unauthorized as refusal:
            if config.cache_ttl_neg:
                self._refused.keep(digest, refusal.reason, None, self._now_ms() + int(config.cache_ttl_neg * 1000))
            raise
        self._introspected.keep(digest, known, None, settings.end_ms(self._now_ms(), end_of(known[0])))
        return known

    async def _introspect(self, settings: Settings, provider: Provider, client: ProviderClient | None, asked: Asked) -> Said:
        endpoint = await provider.endpoint("introspection_endpoint")
        asked = asked.copied()
        said = settings.config.introspection_endpoint_auth_method
        await prove_to(provider, client, said, "introspection_endpoint", endpoint, asked, self._now_ms() / 1000)
        answer = await provider.ask("POST", endpoint, asked.headers, form_of(asked.form))
        where = where_of(provider, endpoint)
        if answer.status != 200:
            raise SystemUnavailable(where, f"answered {answer.status}")
        claims, signed = await _read(settings, provider, client, answer, where)
        if signed is not None:
            # RFC 9701, section 5.
            claims = claims.get("token_introspection", claims)
            if not isinstance(claims, dict):
                raise SystemUnavailable(where, "answered with a token that holds no introspection")
        self._judge(settings, claims, issuers_of(settings, await provider.metadata()))
        return claims, signed

    def _judge(self, settings: Settings, claims: Claims, issuers: frozenset[str]) -> None:
        if settings.config.introspection_check_active is not False and claims.get("active") is not True:
            raise Unauthorized("the introspection endpoint says that the token is not active")
        if settings.config.verify_claims is False:
            return
        try:
            check_times(claims, self._now_ms() / 1000, skew_s=settings.leeway_s)
            if "iss" in claims:
                check_issuer(claims, issuers)
        except JoseError as refusal:
            raise Unauthorized(str(refusal)) from None

    async def told(self, exchange: Exchange, settings: Settings, provider: Provider, text: str) -> Said:
        """What the userinfo endpoint says of whom a token is for.

        Raises:
            Unauthorized: it does not take the token.
        """
        config = settings.config
        query = arguments_of(
            exchange, config.userinfo_query_args_names, config.userinfo_query_args_values, config.userinfo_query_args_client
        )
        headers = headers_of(
            exchange, config.userinfo_headers_names, config.userinfo_headers_values, config.userinfo_headers_client
        )
        headers |= {"Accept": config.userinfo_accept, "Authorization": f"Bearer {text}"}

        async def ask() -> Said:
            return await self._ask_user_info(settings, provider, headers, urlencode(query, errors="surrogateescape"))

        if config.cache_user_info is False:
            return await ask()
        digest = self._told.digest(settings.tag, "userinfo", *sorted_pairs(headers), "", *sorted_pairs(query))
        known = self._told.get(digest)
        if known is None:
            known = await self._asking.ask(digest, ask)
            token = jwt_of(text)
            ends_s = None if token is None else end_of(token.claims)
            self._told.keep(digest, known, None, settings.end_ms(self._now_ms(), ends_s))
        return known

    async def _ask_user_info(self, settings: Settings, provider: Provider, headers: dict[str, str], query: str) -> Said:
        endpoint = await provider.endpoint("userinfo_endpoint")
        where = where_of(provider, endpoint)
        if query:
            endpoint = replace(endpoint, query="&".join(part for part in (endpoint.query, query) if part))
        answer = await provider.ask("GET", endpoint, headers)
        if answer.status in (400, 401, 403):
            raise Unauthorized(f"the userinfo endpoint answered {answer.status}")
        if answer.status != 200:
            raise SystemUnavailable(where, f"answered {answer.status}")
        said = await _read(settings, provider, None, answer, where)
        if not isinstance(said[0].get("sub"), str):
            raise SystemUnavailable(where, "answered without a `sub`")
        return said


def _introspection(exchange: Exchange, settings: Settings, text: str) -> Asked:
    config = settings.config
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
    return Asked({"Accept": config.introspection_accept, **headers}, form)


async def _read(
    settings: Settings, provider: Provider, client: ProviderClient | None, answer: HttpAnswer, where: str
) -> tuple[dict[str, Any], str | None]:
    """A JSON object, or a token whose signature, issuer and audience are checked."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in SIGNED_TYPES:
        try:
            return decode_object(answer.body), None
        except ValueError:
            raise SystemUnavailable(where, "answered with no JSON object") from None
    text = answer.body.decode("ascii", "replace").strip()
    token = jwt_of(text)
    if token is None:
        raise SystemUnavailable(where, "answered with a malformed token")
    clients = settings.clients if client is None else (client,)
    try:
        await check_signature(token, settings, provider, clients)
        if "iss" in token.claims:
            check_issuer(token.claims, issuers_of(settings, await provider.metadata()))
        if "aud" in token.claims and clients:
            check_audience(token.claims, {one.client_id for one in clients})
    except (Unauthorized, JoseError) as refusal:
        raise SystemUnavailable(where, f"answered with a token of another's: {refusal}") from None
    return token.claims, text
