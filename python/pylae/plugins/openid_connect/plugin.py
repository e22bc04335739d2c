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
from pylae.plugins.openid_connect.asking import with_secret
from pylae.plugins.openid_connect.code_flow import Flow
from pylae.plugins.openid_connect.core import OpenIdCore, jwt_of
from pylae.plugins.openid_connect.headers import Made
from pylae.plugins.openid_connect.parts import Forbidden, Grant, Refused, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import AuthPlugin, Identity, Outcome, SystemUnavailable, Verified, challenge, damping_of, facts_of
from pylae.sdk.auth.facts import set_groups

GROUPS_HEADER: Final = "X-Authenticated-Groups"
MAX_BODY_BYTES: Final = 65_536
MAX_REMEMBERED: Final = 8_192
MAX_REMEMBERED_CHARACTERS: Final = 4_096
BY_TOKEN: Final = frozenset({"bearer", "introspection", "userinfo", "kong_oauth2"})
"""Methods of authentication whose credential is an access token in the request."""
_NO_GROUPS: Final[Made] = [(GROUPS_HEADER, None)]


class Decision:
    """A signed token that was found good, and all that follows from it.

    Attributes:
        keys: Of the provider, when it was verified: once others are fetched, it is verified again.
        found: The Consumer's look-up, the value it was asked for and the row it answered; None without a Consumer.
    """

    __slots__ = ("downstream", "found", "grant", "groups", "identity", "keys", "upstream")

    def __init__(self, grant: Grant, keys: object, found: tuple[Any, str, object] | None, identity: Identity) -> None:
        self.grant = grant
        self.keys = keys
        self.found = found
        self.identity = identity
        self.upstream: Made = []
        self.downstream: Made = []
        self.groups: list[str] | None = None


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
        self._decisions: Verified[Decision] = Verified(host.now_ms, MAX_REMEMBERED)
        self._lookup_by = {
            "id": self.consumers_by_id,
            "username": self.consumers_by_username,
            "custom_id": self.consumers_by_custom_id,
        }
        self._own_tokens = host.entities.lookup("oauth2_tokens", "access_token", {"credential": "oauth2_credentials"})

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
        """Authenticates a signed token that was seen before from memory; whatever else waits."""
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            return None
        if config.upstream_plan.forged:
            exchange.service.request.set_headers(config.upstream_plan.forged)
        if self.is_settled(exchange, config):
            return None
        if config.remembers_bearers:
            values = exchange.request.get_header_values("authorization")
            if len(values) == 1 and values[0][:7] in ("Bearer ", "bearer "):
                decision = self._decisions.get(self._decisions.digest(config.tag, values[0][7:]))
                if decision is not None and self._stands(config, decision):
                    self._impose(exchange, config, decision)
                    return None
        return self._authenticate(exchange, config)

    def _stands(self, config: Settings, decision: Decision) -> bool:
        if config.provider is None or config.provider.keys is not decision.keys:
            return False
        if decision.found is None:
            return True
        lookup, value, row = decision.found
        return lookup.cached(value) is row

    async def _authenticate(self, exchange: Exchange, config: Settings) -> Answer | None:
        try:
            return await self._find_and_pass(exchange, config)
        except Refused as refusal:
            return await self._refuse(exchange, config, refusal)
        except SystemUnavailable as failure:
            where = _nth(config.config.unexpected_redirect_uri, 0)
            if where is None:
                raise
            exchange.log("error", f"openid-connect: {failure}")
            return redirect(exchange, where)

    async def _find_and_pass(self, exchange: Exchange, config: Settings) -> Answer | None:
        grant: Grant | None = None
        if config.has_browser:
            intercepted = await self._flow.intercept(exchange, config)
            if intercepted is not None and not isinstance(intercepted, Grant):
                return intercepted
            grant = intercepted
            if grant is None and "session" in config.methods:
                grant = await self._flow.resume(exchange, config)
        if grant is None:
            grant = await self._presented(exchange, config)
        if grant is None:
            if config.has_browser and "authorization_code" in config.methods and config.anonymous is None:
                return await self._flow.begin(exchange, config)
            raise Unauthorized("no credential")
        possession.check(exchange, config, grant)
        if config.config.search_user_info and grant.user_info is None and grant.access_token is not None:
            await self._add_user_info(exchange, config, grant)
        claims.require(grant, config.requirements)
        decision = await self._decide(config, grant)
        if config.has_browser:
            answer = await self._flow.establish(exchange, config, grant)
            if answer is not None:
                return answer
        self._remember(config, decision)
        self._impose(exchange, config, decision)
        for name, value in grant.replayed_headers.items():
            exchange.response.set_header(name, value)
        return None

    async def _presented(self, exchange: Exchange, config: Settings) -> Grant | None:
        """The Grant of a credential in the request, by the first method that finds one."""
        methods, declared_ = config.methods, config.config
        if "refresh_token" in methods and declared_.refresh_token_param_name:
            text = presented.find(exchange, declared_.refresh_token_param_name, declared_.refresh_token_param_type or ())
            if text is not None:
                client = self._core.client_of(exchange, config)
                asked = {"grant_type": "refresh_token", "refresh_token": text}
                return await self._core.redeem(exchange, config, client, "refresh_token", asked)
        if methods & BY_TOKEN:
            text = presented.bearer_token(exchange, config)
            if text is not None:
                return await self._by_token(exchange, config, text)
        for method in ("password", "client_credentials"):
            if (pair := self._pair(exchange, config, method)) is not None:
                try:
                    return await self._by_pair(exchange, config, method, pair)
                except TokenRefused:
                    # `Authorization: Basic` may be meant for the other method.
                    if (
                        method == "password"
                        and "client_credentials" in methods
                        and self._pair(exchange, config, "client_credentials")
                    ):
                        continue
                    raise
        return None

    async def _by_token(self, exchange: Exchange, config: Settings, text: str) -> Grant:
        methods, token = config.methods, jwt_of(text)
        grant: Grant | None = None
        if token is not None and "bearer" in methods and not config.config.introspect_jwt_tokens:
            grant = await self._core.verified(config, token, text)
        elif "introspection" in methods and (token is None or config.config.introspect_jwt_tokens or "bearer" not in methods):
            grant = await self._core.introspected(exchange, config, text)
        if grant is None and "kong_oauth2" in methods:
            grant = await self._own(text)
        if grant is None and "userinfo" in methods:
            grant = Grant("userinfo", None, access_token=text, access_claims=None if token is None else {})
            grant.user_info, grant.user_info_jwt = await self._core.told(exchange, config, text)
        if grant is None:
            raise Unauthorized("a token that none of the methods of authentication takes")
        name = config.config.id_token_param_name
        if name and (id_token := presented.find(exchange, name, config.config.id_token_param_type or ())):
            grant.id_token = id_token
            await self._core.read(config, grant, verify=True)
        return grant

    async def _own(self, text: str) -> Grant | None:
        """The Grant of a token that the oauth2 plugin of this gateway gave out."""
        row = await self._own_tokens.get(text) if "\0" not in text else None
        if row is None:
            return None
        ends_s = row["created_at"] + row["expires_in"] if row.get("expires_in") else None
        consumer = (row.get("credential") or {}).get("consumer")
        if consumer is None or (ends_s is not None and ends_s <= self._core.now_s()):
            raise Unauthorized("the token has ended")
        scope = {"scope": row["scope"]} if row.get("scope") else {}
        return Grant("kong_oauth2", None, access_token=text, access_claims=scope, consumer_id=consumer["id"], expires_at_s=ends_s)

    def _pair(self, exchange: Exchange, config: Settings, method: str) -> tuple[str, str] | None:
        if method not in config.methods:
            return None
        is_password = method == "password"
        places = (config.config.password_param_type if is_password else config.config.client_credentials_param_type) or ()
        pair = presented.basic_pair(exchange) if "header" in places else None
        names = ("username", "password") if is_password else ("client_id", "client_secret")
        return pair or presented.pair_of_arguments(exchange, *names, places)

    async def _by_pair(self, exchange: Exchange, config: Settings, method: str, pair: tuple[str, str]) -> Grant:
        if any(not text.isprintable() for text in pair):
            raise Unauthorized("malformed credentials")
        arguments = {"grant_type": method}
        if config.config.scopes and method == "password":
            arguments["scope"] = " ".join(config.config.scopes)
        if config.config.audience:
            arguments["audience"] = " ".join(config.config.audience)
        if method == "client_credentials":
            scopes = [scope for scope in config.config.scopes or () if scope != "openid"]
            if scopes:
                arguments["scope"] = " ".join(scopes)
            return await self._core.granted(exchange, config, with_secret(pair), method, arguments)
        client = self._core.client_of(exchange, config)
        return await self._core.granted(exchange, config, client, method, {**arguments, "username": pair[0], "password": pair[1]})

    async def _add_user_info(self, exchange: Exchange, config: Settings, grant: Grant) -> None:
        assert grant.access_token is not None, "asked before"
        told, signed = await self._core.told(exchange, config, grant.access_token)
        subject = (grant.id_claims or {}).get("sub")
        if subject is not None and told.get("sub") != subject:
            # OpenID Connect Core, section 5.3.2: else a token could be swapped for another user's.
            raise Unauthorized("userinfo is about another user than the id token")
        grant.user_info, grant.user_info_jwt = told, signed

    async def _decide(self, config: Settings, grant: Grant) -> Decision:
        """Whom a Grant stands for, and what others are told of it."""
        declared_ = config.config
        identifier = claims.name_of(claims.find(grant, tuple(declared_.credential_claim or ("sub",))))
        found: tuple[Any, str, object] | None = None
        if grant.consumer_id is not None:
            found = self.consumers_by_id, grant.consumer_id, await self.consumers_by_id.get(grant.consumer_id)
            if found[2] is None:
                raise Forbidden("the Consumer is gone")
        elif config.consumer_claims:
            found = await self._consumer(config, grant)
            if found is None and not declared_.consumer_optional:
                raise Forbidden("no Consumer for this token")
        consumer: Any = None if found is None else found[2]
        credential = {"id": identifier or (consumer["id"] if consumer else "anonymous")}
        provider = config.provider
        decision = Decision(grant, provider and provider.keys, found, Identity(consumer, credential, identifier))
        if declared_.authenticated_groups_claim:
            decision.groups = claims.values_of(claims.find(grant, tuple(declared_.authenticated_groups_claim)))
        decision.upstream = config.upstream_plan.make(grant)
        if declared_.hide_credentials and grant.method in BY_TOKEN:
            decision.upstream = [field for field in decision.upstream if field[0].lower() != "authorization"]
        decision.downstream = [field for field in config.downstream_plan.make(grant) if field[1] is not None]
        return decision

    async def _consumer(self, config: Settings, grant: Grant) -> tuple[Any, str, object] | None:
        for path in config.consumer_claims:
            value = claims.name_of(claims.find(grant, path))
            if value is None or "\0" in value:
                continue
            for field in config.config.consumer_by or ():
                lookup = {"id": self.consumers_by_id, "username": self.consumers_by_username}.get(
                    field, self.consumers_by_custom_id
                )
                if field == "id" and not (len(value) == 36 and value.count("-") == 4):
                    continue
                row = await lookup.get(value)
                if row is not None:
                    return lookup, value, row
        return None

    def _remember(self, config: Settings, decision: Decision) -> None:
        grant = decision.grant
        text = grant.access_token
        if grant.method != "bearer" or not config.remembers_bearers or text is None or len(text) > MAX_REMEMBERED_CHARACTERS:
            return
        if decision.found is not None and decision.found[0].cached(decision.found[1]) is MISSING:
            return
        now_ms, lasts_s = self.host.now_ms(), config.config.cache_ttl or 3_600
        ends_ms = now_ms + int(lasts_s * 1000)
        if grant.expires_at_s is not None:
            ends_ms = min(ends_ms, int((grant.expires_at_s + config.leeway_s) * 1000))
        if ends_ms > now_ms and decision.keys is not None:
            self._decisions.keep(self._decisions.digest(config.tag, text), decision, None, ends_ms)

    def _impose(self, exchange: Exchange, config: Settings, decision: Decision) -> None:
        grant = decision.grant
        decision.identity.impose(exchange)
        if config.config.hide_credentials:
            presented.hide(exchange, config, grant.method)
        groups = decision.groups
        if groups is not None:
            set_groups(exchange, groups)
        exchange.service.request.set_headers(
            [*decision.upstream, (GROUPS_HEADER, ", ".join(groups))] if groups else [*decision.upstream, *_NO_GROUPS]
        )
        if decision.downstream:
            exchange.response.set_headers(decision.downstream)
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        for said in claims.sources(grant):
            facts.claims = said
            issuer, subject = said.get("iss"), said.get("sub")
            facts.issuer = issuer if isinstance(issuer, str) else None
            facts.subject = subject if isinstance(subject, str) else None
            break
        facts.scopes = claims.values_of(claims.find(grant, tuple(config.config.scopes_claim or ("scope",))))
        facts.expires_at_s = grant.expires_at_s

    async def _refuse(self, exchange: Exchange, config: Settings, refusal: Refused) -> Answer | None:
        declared_, is_forbidden = config.config, isinstance(refusal, Forbidden)
        exchange.service.request.clear_header(GROUPS_HEADER)
        if not is_forbidden and refusal.reason != "no credential" and (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        ends = declared_.forbidden_destroy_session if is_forbidden else declared_.unauthorized_destroy_session
        if config.has_browser and ends is not False:
            await self._flow.end(exchange, config)
        if config.anonymous is None:
            client = self._core.client_of(exchange, config) if config.clients else None
            uris = declared_.forbidden_redirect_uri if is_forbidden else declared_.unauthorized_redirect_uri
            where = _nth(uris, 0 if client is None else client.index)
            if where is not None:
                return redirect(exchange, where)
        if refusal.reason != "no credential":
            exchange.log("notice", f"openid-connect: {'forbidden' if is_forbidden else 'unauthorized'}: {refusal.reason}")
        message = (declared_.forbidden_error_message if is_forbidden else declared_.unauthorized_error_message) or ""
        if declared_.display_errors:
            message = f"{message} ({refusal.reason})"
        error = refusal.error if declared_.expose_error_code is not False and refusal.reason != "no credential" else None
        headers = challenge("Bearer", realm=config.challenge_realm, error=error)
        return await self.settle(self.refuse(exchange, config, (refusal.status, message, headers)))


def redirect(exchange: Exchange, where: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Sends a browser elsewhere; nobody may keep the answer."""
    return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store", **(headers or {})})


def _nth(values: list[str] | None, index: int) -> str | None:
    if not values:
        return None
    return values[index] if 0 <= index < len(values) else values[0]
