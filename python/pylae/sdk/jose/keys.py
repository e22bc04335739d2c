# SPDX-License-Identifier: Apache-2.0
"""What verifies a signature, and which algorithms may it be used with?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from pylae.sdk.jose.asymmetric import algorithms
from pylae.sdk.jose.encoding import decode_base64url
from pylae.sdk.jose.errors import KeyRefused
from pylae.sdk.jose.names import ALGORITHMS

MIN_RSA_BITS: Final = 2_048
"""RFC 7518, section 3.3: a key of this size or larger MUST be used."""
MAX_RSA_BITS: Final = 8_192
"""Verifying with larger ones takes the time of many requests."""
MAX_KEY_CHARACTERS: Final = 16_384
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


class Key:
    """A secret or a public key.

    Attributes:
        kind: `oct`, `RSA`, `P-256`, `P-384`, `P-521` or `OKP`; the algorithms of `ALGORITHMS` with this kind may use it.
        material: The secret (bytes), or cryptography's public key.
        key_id: What its issuer calls it.
        algorithm: The only algorithm it may be used with; None for all of its kind.
    """

    __slots__ = ("algorithm", "key_id", "kind", "material")

    def __init__(self, kind: str, material: Any, key_id: str | None = None, algorithm: str | None = None) -> None:
        self.kind = kind
        self.material = material
        self.key_id = key_id
        self.algorithm = algorithm

    def __repr__(self) -> str:
        return f"<key {self.kind}>"

    def serves(self, algorithm: str) -> bool:
        """May signatures of this algorithm be verified with it?"""
        return ALGORITHMS.get(algorithm) == self.kind and self.algorithm in (None, algorithm)

    @classmethod
    def from_secret(cls, secret: str | bytes, min_bytes: int = 1, key_id: str | None = None) -> Self:
        """A shared secret, for HMAC. RFC 7518 asks for as many bytes as the hash has: 32, 48, 64.

        Raises:
            KeyRefused: it is too short, or a public key, which everybody knows.
        """
        data = secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogateescape")
        if len(data) < max(min_bytes, 1):
            raise KeyRefused(f"a secret of {len(data)} bytes, expected {max(min_bytes, 1)} or more")
        if b"-----BEGIN" in data or data.startswith((b"ssh-", b"ecdsa-")):
            raise KeyRefused("a key of two halves is no secret")
        return cls("oct", data, key_id)

    @classmethod
    def from_pem(cls, pem: str | bytes, key_id: str | None = None, algorithm: str | None = None) -> Self:
        """A public key in PEM: `BEGIN PUBLIC KEY`, `BEGIN RSA PUBLIC KEY`, or that of a certificate.

        Raises:
            KeyRefused: it is none, or too weak or too large, or its curve is not among RFC 7518's.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from cryptography.x509 import load_pem_x509_certificate

        data = pem if isinstance(pem, bytes) else pem.encode("utf-8", "surrogateescape")
        if len(data) > MAX_KEY_CHARACTERS:
            raise KeyRefused("a key of too many bytes")
        try:
            if b"-----BEGIN CERTIFICATE" in data:
                loaded: Any = load_pem_x509_certificate(data).public_key()
            else:
                loaded = load_pem_public_key(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyRefused("no public key in PEM") from None
        return cls(_kind_of(loaded), loaded, key_id, algorithm)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> Self:
        """A JSON Web Key (RFC 7517): `RSA`, `EC`, `OKP` or `oct`; of a key pair only the public half is kept.

        Raises:
            KeyRefused: it is malformed, too weak or too large, or not for verifying (`use`, `key_ops`).
        """
        key_type = jwk.get("kty")
        if jwk.get("use", "sig") != "sig":
            raise KeyRefused("a key for another use than `sig`")
        operations = jwk.get("key_ops")
        if operations is not None and not (isinstance(operations, list) and "verify" in operations):
            raise KeyRefused("a key that is not for `verify`")
        key_id, algorithm = jwk.get("kid"), jwk.get("alg")
        if not isinstance(key_id, str | None) or not isinstance(algorithm, str | None):
            raise KeyRefused("`kid` or `alg` is no text")
        public = {name: value for name, value in jwk.items() if name not in _PRIVATE_MEMBERS}
        for member in ("n", "e", "x", "y", "k"):
            value = public.get(member)
            if value is not None and (not isinstance(value, str) or len(value) > MAX_KEY_CHARACTERS):
                raise KeyRefused(f"`{member}` is no text, or too long")
        if key_type == "oct":
            try:
                key = cls.from_secret(decode_base64url(str(public.get("k", "")).encode("ascii")), key_id=key_id)
            except ValueError:
                raise KeyRefused("`k` is not base64url") from None
        else:
            loaded = _load_public_jwk(key_type, public)
            key = cls(_kind_of(loaded), loaded, key_id)
        if algorithm is not None and not key.serves(algorithm):
            raise KeyRefused("a key for another algorithm than its kind has")
        key.algorithm = algorithm
        return key


def _load_public_jwk(key_type: object, jwk: dict[str, Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
    from jwt.exceptions import PyJWTError

    reader: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}.get(str(key_type))
    if reader is None:
        raise KeyRefused("`kty` is none of RSA, EC, OKP, oct")
    if key_type == "RSA" and len(str(jwk.get("n", ""))) > MAX_RSA_BITS // 6 + 8:
        # Before anybody computes with it.
        raise KeyRefused(f"an RSA key of more than {MAX_RSA_BITS} bits")
    try:
        return reader.from_jwk(jwk)
    except (PyJWTError, ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm):
        raise KeyRefused("a malformed key") from None


def _kind_of(loaded: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    # Whoever reads a key expects that to take a while; the first request that is verified with it must not.
    algorithms()
    if isinstance(loaded, RSAPublicKey):
        if not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
            raise KeyRefused(f"an RSA key of {loaded.key_size} bits, expected {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        if loaded.public_numbers().e > 0xFFFF_FFFF:
            raise KeyRefused("an RSA key with a huge exponent")
        return "RSA"
    if isinstance(loaded, EllipticCurvePublicKey) and loaded.curve.name in _CURVES:
        return _CURVES[loaded.curve.name]
    if isinstance(loaded, (Ed25519PublicKey, Ed448PublicKey)):
        return "OKP"
    raise KeyRefused("a key of a kind that no algorithm here uses")
