# SPDX-License-Identifier: Apache-2.0
"""jwt: who calls, by a signed token?

For APIs whose clients get their tokens from an issuer that is trusted here. A token names a credential (its `iss`, or
another claim), whose key has to have signed it. That it did is remembered, by a digest, until the token ends or the
credential changes; the claims are judged each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pylae.plugins.jwt import config as declared
from pylae.plugins.jwt.bearers import Found, bearer_of, tokens_of
from pylae.plugins.jwt.credentials import Credential
from pylae.plugins.jwt.entities import JwtSecret
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import UNAUTHORIZED, AuthPlugin, Outcome, Refusal, Remembered, Verified, challenge, damping_of, facts_of
from pylae.sdk.auth.plugin import MayBeAnonymous
from pylae.sdk.jose import Malformed, SignatureRefused, Token, numeric_date, parse, verify
from pylae.sdk.jose.errors import ClaimRefused

SHARED_TOKEN: Final = "authenticated_jwt_token"
"""Where later plugins find the token: Kong's own name."""
MAX_REMEMBERED: Final = 8_192
MAX_REMEMBERED_CHARACTERS: Final = 4_096
"""Longer tokens are verified each time: what is remembered of a token is in proportion to its length."""


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    __slots__ = (
        "anonymous",
        "arguments",
        "asked",
        "cookies",
        "headers",
        "invalid",
        "judges_times",
        "key_claim",
        "maximum_expiration_ms",
        "only_header",
        "remembered",
        "secret_is_base64",
        "skips_preflight",
        "tag",
        "times",
    )

    def __init__(self, config: declared.Config) -> None:
        self.anonymous = config.anonymous
        self.skips_preflight = not config.run_on_preflight
        self.arguments = tuple(config.uri_param_names or ())
        self.cookies = tuple(config.cookie_names or ())
        self.headers = tuple(config.header_names or ())
        self.only_header = self.headers[0] if len(self.headers) == 1 and not self.cookies else None
        self.remembered = Remembered(MAX_REMEMBERED)
        """Decisions by the value of `only_header`."""
        self.key_claim = config.key_claim_name or "iss"
        self.secret_is_base64 = config.secret_is_base64
        self.times = tuple(config.claims_to_verify or ())
        self.maximum_expiration_ms = (config.maximum_expiration or 0) * 1000
        self.judges_times = bool(self.times) or self.maximum_expiration_ms > 0
        self.asked = challenge("Bearer", realm=config.realm)
        self.invalid = challenge("Bearer", realm=config.realm, error="invalid_token")
        # All that whether a signature is right depends on, besides the token and its credential.
        self.tag = f"{self.secret_is_base64} {self.key_claim}"

    def refusal(self, message: str) -> Refusal:
        """Of a token that was shown and is no good."""
        return 401, message, self.invalid


class Decision:
    """A token whose signature was found right."""

    __slots__ = ("claims", "credential", "ends_s", "issuer", "key", "subject")

    def __init__(self, key: str, credential: Credential, claims: dict[str, Any]) -> None:
        self.key = key
        self.credential = credential
        self.claims = MappingProxyType(claims)
        issuer, subject, end = claims.get("iss"), claims.get("sub"), claims.get("exp")
        self.issuer = issuer if isinstance(issuer, str) else None
        self.subject = subject if isinstance(subject, str) else None
        self.ends_s = _number(claims, "exp") if end is not None else None


class Jwt(AuthPlugin):
    """Asks clients for a signed JSON Web Token."""

    name = "jwt"
    version = "3.10.0"
    priority = 1450
    entities = (JwtSecret,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._credentials = host.entities.lookup("jwt_secrets", "key", {"consumer": "consumers"}, Credential)
        self._verified: Verified[Decision] = Verified(host.now_ms, MAX_REMEMBERED)
        self._now_ms = host.now_ms

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits the configuration into what `access` compares."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates from memory; waits only for a credential never seen before."""
        if config.arguments and exchange.request.raw_query:
            for name in config.arguments:
                exchange.request.conceal_argument(name)
        if config.skips_preflight and exchange.request.method == "OPTIONS":
            return None
        if config.anonymous is not None and self.is_settled(exchange, config):
            return None
        if config.only_header is not None and not (config.arguments and exchange.request.raw_query):
            known: Decision | None = exchange.request.recognize(config.remembered, config.only_header)
            # The usual request: one header, seen before.
            if known is not None and self._credentials.cached(known.key) is known.credential:
                return self._accept(
                    exchange, config, bearer_of(exchange.request.get_header(config.only_header) or "") or "", known
                )
        text = self._find(exchange, config)
        if type(text) is not str:
            return self._refuse_missing(exchange, config, text)
        digest = self._verified.digest(config.tag, text)
        decision = self._verified.get(digest)
        if decision is not None:
            if self._credentials.cached(decision.key) is decision.credential:
                return self._accept(exchange, config, text, decision)
            self._verified.forget(digest)
        try:
            token = parse(text)
        except Malformed as malformed:
            part = "JSON" if malformed.part == "form" else malformed.part
            return self._refuse(exchange, config, config.refusal(f"Bad token; invalid {part}"))
        key = token.claims.get(config.key_claim)
        if key is None:
            key = token.header.get(config.key_claim)
        if key is None:
            return self._refuse(exchange, config, config.refusal(f"No mandatory '{config.key_claim}' in claims"))
        if not isinstance(key, str) or not key:
            return self._refuse(exchange, config, config.refusal(f"Invalid '{config.key_claim}' in claims"))
        # No row has a key with NUL, and not every database may be asked for one.
        credential = None if "\0" in key else self._credentials.cached(key)
        if credential is MISSING or (credential is not None and not credential.is_loaded):
            return self._authenticate_later(exchange, config, text, digest, token, key)
        return self._authenticate(exchange, config, text, digest, token, key, credential)

    def _find(self, exchange: Exchange, config: Prepared) -> Found | set[Any]:
        """The token; None for none, `True` for an argument without value, a set for several."""
        if config.only_header is not None and not (config.arguments and exchange.request.raw_query):
            values = exchange.request.get_header_values(config.only_header)
            if len(values) == 1:
                # The usual request.
                return bearer_of(values[0])
        found = tokens_of(exchange, config.arguments, config.cookies, config.headers)
        if len(found) > 1:
            return found
        return found.pop() if found else None

    async def _authenticate_later(
        self, exchange: Exchange, config: Prepared, text: str, digest: bytes, token: Token, key: str
    ) -> Answer | None:
        credential: Credential | None = await self._credentials.get(key)
        if credential is not None:
            await credential.load()
        return await self.settle(self._authenticate(exchange, config, text, digest, token, key, credential))

    def _authenticate(
        self,
        exchange: Exchange,
        config: Prepared,
        text: str,
        digest: bytes,
        token: Token,
        key: str,
        credential: Credential | None,
    ) -> Outcome:
        if credential is None:
            return self._refuse(exchange, config, config.refusal(f"No credentials found for given '{config.key_claim}'"))
        if token.algorithm != credential.algorithm:
            return self._refuse(exchange, config, config.refusal("Invalid algorithm"))
        material = credential.key_from_base64 if config.secret_is_base64 else credential.key
        if material is None or not material.serves(token.algorithm):
            return self._refuse(exchange, config, config.refusal("Invalid key/secret"))
        try:
            verify(token, material, (credential.algorithm,))
        except SignatureRefused:
            return self._refuse(exchange, config, config.refusal("Invalid signature"))
        decision = Decision(key, credential, token.claims)
        ends_ms = 0 if decision.ends_s is None else int(decision.ends_s * 1000)
        is_over = decision.ends_s is not None and ends_ms <= self._now_ms()
        if len(text) <= MAX_REMEMBERED_CHARACTERS and not is_over:
            self._verified.keep(digest, decision, None, ends_ms)
            if config.only_header is not None and bearer_of(exchange.request.get_header(config.only_header) or "") == text:
                exchange.request.remember(config.remembered, config.only_header, decision, ends_ms)
        return self._accept(exchange, config, text, decision)

    def _accept(self, exchange: Exchange, config: Prepared, text: str, decision: Decision) -> Outcome:
        if config.judges_times and (wrong := _judge_times(config, decision.claims, self._now_ms())):
            return self._refuse_claims(exchange, config, wrong)
        identity = decision.credential.identity
        if identity.consumer is None:
            missing = f"Could not find consumer for '{config.key_claim}={decision.key}'"
            return self._refuse(exchange, config, (401, missing, None))
        identity.impose(exchange)
        exchange.ctx[SHARED_TOKEN] = text
        facts = facts_of(exchange)
        facts.methods.append(self.name)
        facts.claims = decision.claims
        facts.issuer = decision.issuer
        facts.subject = decision.subject
        facts.expires_at_s = decision.ends_s
        return None

    def refuse(self, exchange: Exchange, config: MayBeAnonymous, refusal: Refusal) -> Outcome:
        """Refuses with plain JSON, whatever the client accepts, or lets the client pass as the anonymous Consumer."""
        if config.anonymous is None:
            status, message, headers = refusal
            return exchange.answer(status, {"message": message}, headers)
        return super().refuse(exchange, config, refusal)

    def _refuse_missing(self, exchange: Exchange, config: Prepared, found: object) -> Outcome:
        if found is None:
            return self.refuse(exchange, config, (401, UNAUTHORIZED, config.asked))
        message = "Unrecognizable token" if found is True else "Multiple tokens provided"
        return self._refuse(exchange, config, config.refusal(message))

    def _refuse_claims(self, exchange: Exchange, config: Prepared, wrong: dict[str, Any]) -> Outcome:
        if config.anonymous is None:
            return exchange.answer(401, wrong, config.invalid)
        return self.refuse(exchange, config, config.refusal(UNAUTHORIZED))

    def _refuse(self, exchange: Exchange, config: Prepared, refusal: Refusal) -> Outcome:
        if (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, None)
        return self.refuse(exchange, config, refusal)


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    try:
        return numeric_date(claims, name)
    except ClaimRefused:
        return None


def _judge_times(config: Prepared, claims: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """What is wrong with each claim that has to be right."""
    wrong: dict[str, Any] = {}
    for name in config.times:
        time_s = _number(claims, name)
        if time_s is None:
            wrong[name] = "must be a number"
        elif name == "exp":
            if time_s * 1000 <= now_ms:
                wrong[name] = "token expired"
        elif time_s * 1000 > now_ms:
            wrong[name] = "token not valid yet"
    if config.maximum_expiration_ms and "exp" not in wrong:
        ends_s = _number(claims, "exp")
        if ends_s is None or ends_s * 1000 - now_ms > config.maximum_expiration_ms:
            wrong["exp"] = "exceeds maximum allowed expiration"
    return wrong
