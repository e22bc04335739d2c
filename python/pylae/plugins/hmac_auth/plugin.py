# SPDX-License-Identifier: Apache-2.0
"""hmac-auth: who calls, by a signature over the request?

For APIs whose requests must be proven to come from a client unaltered. The client signs fields, its request's target and
a date with a secret that never travels (draft-cavage-http-signatures, as Kong speaks it).
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.hmac_auth import config as declared
from pylae.plugins.hmac_auth.dates import parse_date
from pylae.plugins.hmac_auth.entities import HmacauthCredential
from pylae.plugins.hmac_auth.signatures import Secret, Signature, parse_signature, signed_text
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance
from pylae.sdk.auth import UNAUTHORIZED, AuthPlugin, Identity, Outcome, Refusal, challenge, damping_of, equals, facts_of

MAX_BODY_BYTES: Final = 8_388_608
MAX_BODY_BYTES_AT_ONCE: Final = 262_144
"""Hashing more takes longer than other requests should wait."""
NO_DATE: Final = "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication"
NOT_VERIFIABLE: Final = "HMAC signature cannot be verified"
NO_MATCH: Final = "HMAC signature does not match"
_DATES: Final = ("x-date", "date")


class Prepared:
    """A configuration with everything computed that does not depend on the request."""

    __slots__ = (
        "algorithms",
        "anonymous",
        "clock_skew_s",
        "enforced",
        "hides_credentials",
        "mismatch",
        "missing",
        "no_date",
        "too_large",
        "unverifiable",
        "validates_body",
    )

    def __init__(self, config: declared.Config) -> None:
        asked = challenge("hmac", realm=config.realm)
        self.algorithms = frozenset(config.algorithms or ())
        self.anonymous = config.anonymous
        self.clock_skew_s = config.clock_skew or 300
        self.enforced = frozenset(name.lower() for name in config.enforce_headers or ())
        self.hides_credentials = config.hide_credentials
        self.validates_body = config.validate_request_body
        self.missing: Refusal = (401, UNAUTHORIZED, asked)
        self.no_date: Refusal = (401, NO_DATE, asked)
        self.unverifiable: Refusal = (401, NOT_VERIFIABLE, asked)
        self.mismatch: Refusal = (401, NO_MATCH, asked)
        self.too_large: Refusal = (413, "Payload too large", None)


class Credential:
    """A row of `hmacauth_credentials`, ready to verify with; made once per row."""

    __slots__ = ("identity", "secret")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.identity = Identity.of_credential(row, row["username"])
        self.secret = Secret((row.get("secret") or "").encode())

    def __repr__(self) -> str:
        return "<hmac credential>"


class HmacAuth(AuthPlugin):
    """Asks clients to sign their requests with a shared secret."""

    name = "hmac-auth"
    version = "3.10.0"
    priority = 1030
    reads_body = MAX_BODY_BYTES
    entities = (HmacauthCredential,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._credentials = host.entities.lookup("hmacauth_credentials", "username", {"consumer": "consumers"}, Credential)
        self._now_ms = host.now_ms

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits the configuration into what `access` compares."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only where they are compared with their digest."""
        return MAX_BODY_BYTES if config.validates_body else 0

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Authenticates from memory; waits only for a username never seen before, or for a large body's digest."""
        if self.is_settled(exchange, config):
            return None
        request = exchange.request
        shown = None
        signed: Signature | None = None
        for name in ("proxy-authorization", "authorization"):
            values = request.get_header_values(name)
            shown = shown or values
            signed = parse_signature(values[0]) if len(values) == 1 else None
            if signed is not None:
                if config.hides_credentials:
                    exchange.service.request.clear_header(name)
                break
        if not shown:
            return self.refuse(exchange, config, config.missing)
        names = None if signed is None else signed.names
        if not self._is_in_time(exchange, config, names):
            return self._refuse(exchange, config, config.no_date)
        if signed is None or names is None or signed.algorithm not in config.algorithms or not config.enforced <= names:
            return self._refuse(exchange, config, config.unverifiable)
        damping = damping_of(exchange)
        if damping is not None and damping.is_locked(self.name, signed.username):
            return damping.refusal(exchange)
        # No row has a name with NUL, and not every database may be asked for one.
        credential = None if "\0" in signed.username else self._credentials.cached(signed.username)
        if credential is MISSING:
            return self._authenticate_later(exchange, config, signed)
        return self._authenticate(exchange, config, signed, credential)

    def _is_in_time(self, exchange: Exchange, config: Prepared, names: frozenset[str] | None) -> bool:
        """Is one of the dates near enough? If any of them is signed, one that is not does not count: anybody may have set it."""
        is_any_signed = names is not None and ("date" in names or "x-date" in names)
        now_s = self._now_ms() // 1000
        for name in _DATES:
            if is_any_signed and names is not None and name not in names:
                continue
            values = exchange.request.get_header_values(name)
            if len(values) == 1:
                made_s = parse_date(values[0])
                if made_s is not None and abs(now_s - made_s) <= config.clock_skew_s:
                    return True
        return False

    async def _authenticate_later(self, exchange: Exchange, config: Prepared, signed: Signature) -> Answer | None:
        username = signed.username
        if not username.isascii():
            # Bytes that are no text are no name either, yet must not break the look-up.
            username = username.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        credential = await self._credentials.get(username)
        return await self.settle(self._authenticate(exchange, config, signed, credential))

    def _authenticate(self, exchange: Exchange, config: Prepared, signed: Signature, credential: Credential | None) -> Outcome:
        if credential is None or not credential.secret:
            return self._refuse(exchange, config, config.unverifiable, signed.username)
        if not credential.secret.has_signed(signed_text(exchange.request, signed.headers), signed.signature, signed.algorithm):
            return self._refuse(exchange, config, config.mismatch, signed.username)
        if config.validates_body:
            body = exchange.request.body
            if body is None:
                return self.refuse(exchange, config, config.too_large)
            if len(body) > MAX_BODY_BYTES_AT_ONCE:
                return self._validate_later(exchange, config, signed, credential, body)
            if not _is_digest(exchange, body, hashlib.sha256(body).digest()):
                return self._refuse(exchange, config, config.mismatch, signed.username)
        return self._accept(exchange, credential)

    async def _validate_later(
        self, exchange: Exchange, config: Prepared, signed: Signature, credential: Credential, body: bytes
    ) -> Answer | None:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(body).digest())
        if not _is_digest(exchange, body, digest):
            return await self.settle(self._refuse(exchange, config, config.mismatch, signed.username))
        return await self.settle(self._accept(exchange, credential))

    def _accept(self, exchange: Exchange, credential: Credential) -> Outcome:
        outcome = self.accept(exchange, credential.identity)
        if outcome is None:
            facts_of(exchange).methods.append(self.name)
        return outcome

    def _refuse(self, exchange: Exchange, config: Prepared, refusal: Refusal, username: str | None = None) -> Outcome:
        if (damping := damping_of(exchange)) is not None:
            damping.failed(self.name, username)
        return self.refuse(exchange, config, refusal)


def _is_digest(exchange: Exchange, body: bytes, digest: bytes) -> bool:
    """Is this what `Digest` says (RFC 3230, section 4.3.2)? Without that field only an empty body passes."""
    values = exchange.request.get_header_values("digest")
    if not values:
        return not body
    algorithm, _, value = values[0].partition("=")
    return len(values) == 1 and algorithm.upper() == "SHA-256" and equals(value, binascii.b2a_base64(digest, newline=False))
