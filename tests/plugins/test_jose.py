# SPDX-License-Identifier: Apache-2.0
"""Are signed tokens read, and believed, as their RFCs say?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pylae.sdk.jose import (
    Key,
    SignatureRefused,
    parse,
    sign,
    verify,
)
from pylae.sdk.jose.encoding import encode_base64url

# RFC 7515, appendix A.1.
RFC_TOKEN = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290"
    "Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
RFC_KEY = {
    "kty": "oct",
    "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
}
# RFC 8037, appendix A.
RFC_ED25519_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}

_PRIVATE: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}
SECRET = "a shared secret of enough bytes for any of the hashes, even 64 of them"


def private_pem(name: str) -> bytes:
    return bytes(_PRIVATE[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_pem(name: str) -> bytes:
    return bytes(_PRIVATE[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk_of(name: str, **members: Any) -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    key = _PRIVATE[name].public_key()
    kind: Any = RSAAlgorithm if name == "RSA" else ECAlgorithm if name.startswith("ES") else OKPAlgorithm
    made: dict[str, Any] = json.loads(kind.to_jwk(key))
    made.pop("key_ops", None)
    return {**made, **members}


def token_of(header: Any, claims: Any, signature: bytes = b"signature") -> str:
    pieces = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, claims)]
    return b".".join(encode_base64url(piece) for piece in (*pieces, signature)).decode()


def test_token_of_rfc_7515_is_verified() -> None:
    token = parse(RFC_TOKEN)
    assert token.claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    key = Key.from_jwk(RFC_KEY)
    assert verify(token, key, {"HS256"}) is key


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_shared_secret_verifies(algorithm: str) -> None:
    token = parse(sign({"iss": "a"}, SECRET, algorithm))
    verify(token, Key.from_secret(SECRET), {algorithm})
    with pytest.raises(SignatureRefused):
        verify(token, Key.from_secret(SECRET + "."), {algorithm})


ASYMMETRIC = [
    *((f"{family}{size}", "RSA") for family in ("RS", "PS") for size in (256, 384, 512)),
    ("ES256", "ES256"),
    ("ES384", "ES384"),
    ("ES512", "ES512"),
    ("EdDSA", "EdDSA"),
    ("EdDSA", "Ed448"),
]


@pytest.mark.parametrize(("algorithm", "name"), ASYMMETRIC)
def test_public_key_verifies(algorithm: str, name: str) -> None:
    text = sign({"iss": "a"}, private_pem(name), algorithm, {"kid": "1"})
    token = parse(text)
    for key in (Key.from_pem(public_pem(name)), Key.from_jwk(jwk_of(name, kid="1", use="sig", alg=algorithm))):
        assert verify(token, [Key.from_secret(SECRET), key], {algorithm}) is key
        changed = parse(sign({"iss": "b"}, private_pem(name), algorithm))
        changed.signature = token.signature
        with pytest.raises(SignatureRefused):
            verify(changed, key, {algorithm})
