# SPDX-License-Identifier: Apache-2.0
"""What do issuers of these tests sign with? Keys are made once, and other people's library signs."""

from __future__ import annotations

import functools
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SECRET = "nobody-may-read-this-0913, and it is long enough for every one of the hashes"


def private_key(algorithm: str, bits: int = 2048) -> Any:
    """A key for this algorithm; those of one family and size share it."""
    return _rsa(bits) if algorithm[:2] in ("RS", "PS") else _elliptic(algorithm)


@functools.cache
def _elliptic(algorithm: str) -> Any:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm]) if algorithm in curves else ed25519.Ed25519PrivateKey.generate()


@functools.cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def public_pem(algorithm: str, bits: int = 2048) -> str:
    """What a credential holds as `rsa_public_key`."""
    public = private_key(algorithm, bits).public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(algorithm: str) -> bytes:
    """The key itself, unencrypted."""
    return bytes(private_key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def signed(claims: dict[str, Any], algorithm: str = "HS256", header: dict[str, Any] | None = None, key: Any = None) -> str:
    """A token as PyJWT makes it."""
    if key is None:
        key = SECRET if algorithm.startswith("HS") else private_key(algorithm)
    return jwt.encode(claims, key, algorithm, headers=header)
