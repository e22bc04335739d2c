# SPDX-License-Identifier: Apache-2.0
"""openid-connect: who calls, by what an identity provider says?

For APIs and pages whose users an OpenID provider knows (Keycloak, Entra ID, Auth0, Okta ...): tokens in requests, tokens the
gateway gets for whoever shows a password or a secret, and browsers that log in at the provider. `parts` says in which
order these are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.openid_connect import claims, possession, presented, refusals
from pylae.plugins.openid_connect import config as declared
from pylae.plugins.openid_connect.code_flow import Flow
from pylae.plugins.openid_connect.core import OpenIdCore
from pylae.plugins.openid_connect.credentials import Credentials
from pylae.plugins.openid_connect.decisions import GROUPS_HEADER, Consumers, Decision
from pylae.plugins.openid_connect.parts import Forbidden, Grant, Locked, Refused, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import Answer, Exchange, Host, Instance
from pylae.sdk.auth import AuthPlugin, Outcome, SystemUnavailable, challenge, damping_of, drop_claims
from pylae.sdk.entities import Lookup

MAX_BODY_BYTES: Final = 65_536
MAX_REMEMBERED_CHARACTERS: Final = 4_096
"""Longer tokens are verified each time: what is remembered of a token is in proportion to its length."""
NO_CREDENTIAL: Final = "no credential"


class OpenidConnect(AuthPlugin):
    """Asks an OpenID provider who calls."""

    name = "openid-connect"
    version = "3.10.0"
    priority = 1050
    reads_body = MAX_BODY_BYTES
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._core = OpenIdCore(host)
        self._flow = Flow(host, self._core)
        self._credentials = Credentials(host, self._core)
        by_field = {"id": self.consumers_by_id, "username": self.consumers_by_username, "custom_id": self.consumers_by_custom_id}
        self._consumers = Consumers(by_field)

    async def stop(self) -> None:
        """Closes connections."""
        await self._flow.close()
        await self._core.close()

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Refuses what is not supported."""
        refusals.judge(config)

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Settings:
        """Makes what the phases look at."""
        return Settings(config, instance)

    @classmethod
    def body_limit(cls, config: Settings) -> int:
        """Bodies are read where they may hold a credential."""
        return MAX_BODY_BYTES if config.reads_body else 0

    def access(self, exchange: Exchange, config: Settings) -> Outcome:
        """Lets a signed token pass from memory that was seen before; whatever else waits."""
        if config.upstream_plan.forged:
            exchange.service.request.set_headers(config.upstream_plan.forged)
        if exchange.request.raw_query:
            exchange.request.conceal_argument(presented.TOKEN_ARGUMENT)
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            drop_claims(exchange, (GROUPS_HEADER,))
            return None
        if config.anonymous is not None and self.is_settled(exchange, config):
            drop_claims(exchange, (GROUPS_HEADER,))
            return None
        if config.is_quick:
            decision: Decision | None = exchange.request.recognize(config.remembered, "authorization")
            # A cookie may be a session, which comes first.
            if (
                decision is not None
                and decision.stands(config)
                and not (config.has_browser and exchange.request.get_header("cookie"))
            ):
                decision.impose(exchange, config, decision.missing)
                return None
        return self._authenticate(exchange, config)

    async def _authenticate(self, exchange: Exchange, config: Settings) -> Answer | None:
        try:
            return await self._find_and_pass(exchange, config)
        except Refused as refusal:
            return await self._refuse(exchange, config, refusal)
        except Locked:
            damping = damping_of(exchange)
            assert damping is not None, "it was asked"
            return damping.refusal(exchange)
        except SystemUnavailable as failure:
            where = _nth(config.config.unexpected_redirect_uri, 0)
            if where is None:
                raise
            exchange.log("error", f"openid-connect: {failure}")
            return redirect(exchange, where)

    async def _find_and_pass(self, exchange: Exchange, config: Settings) -> Answer | None:
        keys = None if config.provider is None else config.provider.keys
        grant: Grant | None = None
        if config.has_browser:
            intercepted = await self._flow.intercept(exchange, config)
            if intercepted is not None and not isinstance(intercepted, Grant):
                return intercepted
            grant = intercepted
            if grant is None and "session" in config.methods:
                grant = await self._flow.resume(exchange, config)
        if grant is None:
            grant = await self._credentials.find(exchange, config)
        if grant is None:
            if config.has_browser and "authorization_code" in config.methods and config.anonymous is None:
                return await self._flow.begin(exchange, config)
            raise Unauthorized(NO_CREDENTIAL)
        possession.check(exchange, config, grant)
        if config.config.search_user_info:
            await self._core.add_user_info(exchange, config, grant)
        claims.require(grant, config.requirements)
        in_vain: list[tuple[Lookup, str]] = []
        found = await self._consumers.of(config, grant, in_vain)
        decision = Decision(config, grant, found, keys, in_vain)
        if config.has_browser:
            answer = await self._flow.establish(exchange, config, grant)
            if answer is not None:
                return answer
        self._remember(exchange, config, decision)
        decision.impose(exchange, config, decision.others)
        for name, value in grant.replayed_headers.items():
            exchange.response.set_header(name, value)
        return None

    def _remember(self, exchange: Exchange, config: Settings, decision: Decision) -> None:
        """Keeps what a signed token decides, until the token ends or what the decision rests on changes."""
        grant = decision.grant
        text = grant.access_token
        if grant.method != "bearer" or not config.is_quick or text is None or len(text) > MAX_REMEMBERED_CHARACTERS:
            return
        now_ms = self.host.now_ms()
        ends_ms = now_ms + int((config.config.cache_ttl or 0) * 1000)
        if grant.expires_at_s is not None:
            ends_ms = min(ends_ms, int((grant.expires_at_s + config.leeway_s) * 1000))
        if ends_ms > now_ms and decision.is_lasting and exchange.request.get_header_values("authorization") == [f"Bearer {text}"]:
            exchange.request.remember(config.remembered, "authorization", decision, ends_ms)

    async def _refuse(self, exchange: Exchange, config: Settings, refusal: Refused) -> Answer | None:
        declared_, is_forbidden = config.config, isinstance(refusal, Forbidden)
        exchange.service.request.clear_header(GROUPS_HEADER)
        if not is_forbidden and refusal.reason != NO_CREDENTIAL and (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, refusal.name)
        ends = declared_.forbidden_destroy_session if is_forbidden else declared_.unauthorized_destroy_session
        if config.has_browser and ends is not False:
            await self._flow.end(exchange, config)
        if config.anonymous is None:
            client = self._core.client_of(exchange, config) if config.clients else None
            uris = declared_.forbidden_redirect_uri if is_forbidden else declared_.unauthorized_redirect_uri
            where = _nth(uris, 0 if client is None else client.index)
            if where is not None:
                return redirect(exchange, where)
        if refusal.reason != NO_CREDENTIAL:
            exchange.log("notice", f"openid-connect: {'forbidden' if is_forbidden else 'unauthorized'}: {refusal.reason}")
        message = (declared_.forbidden_error_message if is_forbidden else declared_.unauthorized_error_message) or ""
        if declared_.display_errors:
            message = f"{message} ({refusal.reason})"
        error = refusal.error if declared_.expose_error_code is not False and refusal.reason != NO_CREDENTIAL else None
        headers = challenge("Bearer", realm=config.challenge_realm, error=error)
        return await self.settle(self.refuse(exchange, config, (refusal.status, message, headers)))


def redirect(exchange: Exchange, where: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Sends a browser elsewhere; nobody may keep the answer."""
    return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store", **(headers or {})})


def _nth(values: list[str] | None, index: int) -> str | None:
    if not values:
        return None
    return values[index] if 0 <= index < len(values) else values[0]
