# SPDX-License-Identifier: Apache-2.0
"""Is a signed token the provider's, for us, and does it still hold? RFC 7519, RFC 9068, OpenID Connect Core, section 3.1.3.7."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pylae.plugins.openid_connect import claims as contents
from pylae.plugins.openid_connect.parts import ProviderClient, Unauthorized
from pylae.plugins.openid_connect.provider import Provider, issuer_of
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk.auth import equals
from pylae.sdk.jose import (
    ALGORITHMS,
    ClaimRefused,
    JoseError,
    Key,
    KeyRefused,
    Malformed,
    SignatureRefused,
    Token,
    check_audience,
    check_issuer,
    check_times,
    numeric_date,
    parse,
    verify,
)

ASYMMETRIC: Final = frozenset(name for name, kind in ALGORITHMS.items() if kind != "oct")
SYMMETRIC: Final = frozenset(ALGORITHMS) - ASYMMETRIC
OTHER_PURPOSES: Final = ("logout+jwt", "dpop+jwt", "secevent+jwt", "oauth-authz-req+jwt")
"""Values of `typ` that say a token is for something else (RFC 8725, section 3.11)."""
MIN_HS_SECRET_BYTES: Final = 32


def jwt_of(text: str) -> Token | None:
    """The token, if it is a signed one; None for an opaque one."""
    if text.count(".") != 2:
        return None
    try:
        return parse(text)
    except Malformed:
        return None


def end_of(claims: Mapping[str, Any]) -> float | None:
    """When a token ends, in seconds since the epoch; None when it does not say."""
    try:
        return numeric_date(claims, "exp")
    except JoseError:
        return None


async def check_signature(token: Token, settings: Settings, provider: Provider, clients: Iterable[ProviderClient]) -> Key:
    """Who signed it? Newer keys are asked for when it names one that is not known.

    Raises:
        Unauthorized: nobody we know.
        SystemUnavailable: the keys cannot be had.
    """
    if token.algorithm in SYMMETRIC:
        return _check_secret(token, settings, clients)
    issuer = token.claims.get("iss") if settings.config.verify_claims is not False else None
    keys = await provider.current_keys()
    try:
        return verify(token, keys.candidates(token, issuer), ASYMMETRIC)
    except SignatureRefused as refusal:
        may_be_newer = refusal.is_key_missing or token.key_id is None
        newer = await provider.newer_keys(keys) if may_be_newer else None
        if newer is None:
            raise Unauthorized(str(refusal)) from None
    try:
        return verify(token, newer.candidates(token, issuer), ASYMMETRIC)
    except SignatureRefused as refusal:
        raise Unauthorized(str(refusal)) from None


def _check_secret(token: Token, settings: Settings, clients: Iterable[ProviderClient]) -> Key:
    if not settings.config.enable_hs_signatures:
        raise Unauthorized("an algorithm that is not expected")
    long_enough = [client.secret for client in clients if client.secret and len(client.secret.encode()) >= MIN_HS_SECRET_BYTES]
    try:
        return verify(token, [Key.from_secret(secret) for secret in long_enough], SYMMETRIC)
    except KeyRefused:
        raise Unauthorized("the client's secret is none to sign with") from None
    except SignatureRefused as refusal:
        raise Unauthorized(str(refusal)) from None


def check_access_token(token: Token, settings: Settings, metadata: Mapping[str, Any], now_s: float) -> None:
    """Do the claims of an access token hold?

    Raises:
        Unauthorized: they do not.
    """
    kind = token.header.get("typ")
    if isinstance(kind, str) and kind.lower().removeprefix("application/") in OTHER_PURPOSES:
        raise Unauthorized("a token for another purpose")
    _check_standard(token.claims, settings, metadata, now_s)
    contents.check_contents(token.claims, settings, now_s)


def check_id_token(
    token: Token,
    settings: Settings,
    metadata: Mapping[str, Any],
    client: ProviderClient | None,
    now_s: float,
    *,
    nonce: str | None = None,
    access_token: str | None = None,
) -> None:
    """Do the claims of an id token hold, for this client and this login?

    Raises:
        Unauthorized: they do not.
    """
    claims = token.claims
    _check_standard(claims, settings, metadata, now_s)
    if settings.config.verify_claims is not False:
        audiences = {client.client_id} if client is not None else {one.client_id for one in settings.clients}
        try:
            check_audience(claims, audiences)
        except ClaimRefused as refusal:
            raise Unauthorized(str(refusal)) from None
        party = claims.get("azp")
        if party is not None and not (isinstance(party, str) and party in audiences):
            raise Unauthorized("`azp`: for another party")
        if isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1 and party is None:
            raise Unauthorized("`azp`: missing among several audiences")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise Unauthorized("`sub`: missing")
        if "at_hash" in claims and access_token is not None and claims["at_hash"] != _half_hash(access_token, token.algorithm):
            raise Unauthorized("`at_hash`: of another access token")
    if nonce is not None and settings.config.verify_nonce is not False:
        said = claims.get("nonce")
        if not isinstance(said, str) or not equals(said, nonce):
            raise Unauthorized("`nonce`: of another login")
    contents.check_contents(claims, settings, now_s)


def issuers_of(settings: Settings, metadata: Mapping[str, Any]) -> frozenset[str]:
    """The issuers tokens may come from."""
    allowed = settings.config.issuers_allowed
    if allowed:
        return frozenset(allowed)
    return frozenset({str(metadata["issuer"]), issuer_of(settings.config.issuer)})


def _check_standard(claims: Mapping[str, Any], settings: Settings, metadata: Mapping[str, Any], now_s: float) -> None:
    if settings.config.verify_claims is False:
        return
    try:
        check_issuer(claims, issuers_of(settings, metadata))
        check_times(claims, now_s, skew_s=settings.leeway_s, requires_end=True)
    except JoseError as refusal:
        raise Unauthorized(str(refusal)) from None


def _half_hash(text: str, algorithm: str) -> str:
    """The left half of a hash, as `at_hash` holds it; OpenID Connect Core, section 3.1.3.6."""
    name = "sha512" if algorithm == "EdDSA" else f"sha{algorithm[-3:]}"
    digest = hashlib.new(name, text.encode("ascii", "surrogateescape")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def public_jwk(key: Key) -> dict[str, Any] | None:
    """The key as a JSON Web Key; None for a secret."""
    if key.kind == "oct":
        return None
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    writer: Any = {"RSA": RSAAlgorithm, "OKP": OKPAlgorithm}.get(key.kind, ECAlgorithm)
    made: dict[str, Any] = writer.to_jwk(key.material, as_dict=True)
    made.pop("key_ops", None)
    if key.key_id is not None:
        made["kid"] = key.key_id
    return made
