# SPDX-License-Identifier: Apache-2.0
"""How does the gateway prove to the provider who it is? RFC 6749, section 2.3; RFC 7523; OpenID Connect Core, section 9."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import quote_plus

from pylae.plugins.openid_connect.parts import ProviderClient
from pylae.sdk.auth import SystemUnavailable
from pylae.sdk.jose import KeyRefused, sign

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TTL_S: Final = 60
DEFAULT: Final = "client_secret_basic"
_PREFERRED: Final = ("client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none")


def choose(client: ProviderClient, said: str | None, supported: Sequence[str] | None) -> str:
    """The method for one endpoint: what the configuration says of it, or of the client, or what the provider supports."""
    method = said or client.auth_method
    if method is not None:
        return method
    possible = {DEFAULT} if supported is None else set(supported) & set(_PREFERRED)
    if client.jwk is None:
        possible.discard("private_key_jwt")
    if client.secret is None:
        possible -= {"client_secret_basic", "client_secret_post", "client_secret_jwt"}
    return next((method for method in _PREFERRED if method in possible), DEFAULT if client.secret else "none")


def prove(
    client: ProviderClient,
    method: str,
    audience: str,
    now_s: float,
    headers: MutableMapping[str, str],
    form: MutableMapping[str, str],
) -> None:
    """Puts the proof into a request.

    Args:
        client: Who asks.
        method: `client_secret_basic` and others.
        audience: The endpoint, or the issuer, that an assertion is for.
        now_s: Seconds since the epoch.
        headers: Of the request; changed.
        form: Of the request; changed.

    Raises:
        SystemUnavailable: the configuration lacks what the method needs.
    """
    secret = client.secret or ""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return
    form["client_id"] = client.client_id
    if method == "client_secret_post":
        form["client_secret"] = secret
    elif method in ("client_secret_jwt", "private_key_jwt"):
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = _assertion(client, method, audience, now_s)


def _assertion(client: ProviderClient, method: str, audience: str, now_s: float) -> str:
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": int(now_s),
        "exp": int(now_s) + ASSERTION_TTL_S,
    }
    try:
        if method == "client_secret_jwt":
            algorithm = client.algorithm or "HS256"
            if not algorithm.startswith("HS"):
                raise KeyRefused(f"`{algorithm}` is not for a secret")
            return sign(claims, client.secret or "", algorithm)
        if client.jwk is None:
            raise KeyRefused("no `client_jwk`")
        algorithm = client.algorithm or client.jwk.get("alg") or _usual_algorithm(client.jwk)
        header = {"kid": client.jwk["kid"]} if client.jwk.get("kid") else {}
        return sign(claims, private_pem(client.jwk), algorithm, header)
    except KeyRefused as refusal:
        raise SystemUnavailable("configuration of the client assertion", str(refusal)) from None


def _usual_algorithm(jwk: Mapping[str, Any]) -> str:
    by_curve = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}
    return by_curve.get(str(jwk.get("crv")), "RS256")


def private_pem(jwk: Mapping[str, Any]) -> bytes:
    """A private JWK in PEM (PKCS#8).

    Raises:
        KeyRefused: it is none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
    from jwt.exceptions import PyJWTError

    reader: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}.get(str(jwk.get("kty")))
    if reader is None or not jwk.get("d"):
        raise KeyRefused("`client_jwk` is no private key")
    try:
        key = reader.from_jwk({name: value for name, value in jwk.items() if isinstance(value, str)})
        pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise KeyRefused("`client_jwk` is malformed") from None
    return pem
