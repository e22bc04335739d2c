# SPDX-License-Identifier: Apache-2.0
"""What is a key?"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from pylae.entities import common
from pylae.schema import Entity, Record, at_least_one_of, custom, field, kinds, mutually_exclusive
from pylae.schema.rules import load_private_key
from pylae.vaults.reference import is_reference

_NOT_LOADED: Final = "could not load JWK, likely not a valid key"


def _pair_matches(values: Mapping[str, Any]) -> str | None:
    """Whether both parts are keys in PEM that belong together; what a vault holds is not looked at."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public_text, private_text = values.get("public_key"), values.get("private_key")
    if is_reference(public_text) or is_reference(private_text):
        return None
    public = private = None
    if public_text is not None:
        try:
            public = load_pem_public_key(public_text.encode())
        except (ValueError, UnsupportedAlgorithm):
            return "could not load public key"
    if private_text is not None:
        try:
            private = load_private_key(private_text)
        except ValueError as error:
            return f"could not load private key: {error}"
    if public is not None and private is not None and private.public_key() != public:
        return "public key does not match private key"
    return None


def load_jwk(jwk: Mapping[str, Any]) -> Any:
    """The public or private key that a JSON Web Key describes.

    Source: RFC 7517, RFC 7518 section 6, RFC 8037.

    Raises:
        ValueError: it describes none.
    """
    match jwk.get("kty"):
        case "RSA":
            return _rsa_key(jwk)
        case "EC":
            return _ec_key(jwk)
        case "OKP":
            return _okp_key(jwk)
        case kind:
            raise ValueError(f"unknown type of key `{kind}`")


def _bytes(jwk: Mapping[str, Any], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or not text.isascii():
        raise ValueError(f"`{name}` is not base64")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(jwk: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(jwk, name))


def _rsa_key(jwk: Mapping[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa

    public = rsa.RSAPublicNumbers(_number(jwk, "e"), _number(jwk, "n"))
    if "d" not in jwk:
        return public.public_key()
    d = _number(jwk, "d")
    if "p" in jwk and "q" in jwk:
        p, q = _number(jwk, "p"), _number(jwk, "q")
    else:
        p, q = rsa.rsa_recover_prime_factors(public.n, public.e, d)
    remainders = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *remainders, public).private_key()


def _ec_key(jwk: Mapping[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    curves: dict[Any, type[ec.EllipticCurve]] = {
        "P-256": ec.SECP256R1,
        "P-384": ec.SECP384R1,
        "P-521": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
    }
    curve = curves.get(jwk.get("crv"))
    if curve is None:
        raise ValueError(f"unknown curve `{jwk.get('crv')}`")
    public = ec.EllipticCurvePublicNumbers(_number(jwk, "x"), _number(jwk, "y"), curve())
    if "d" not in jwk:
        return public.public_key()
    return ec.EllipticCurvePrivateNumbers(_number(jwk, "d"), public).private_key()


def _okp_key(jwk: Mapping[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, x448, x25519

    curves: dict[Any, tuple[Any, Any]] = {
        "Ed25519": (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
        "Ed448": (ed448.Ed448PublicKey, ed448.Ed448PrivateKey),
        "X25519": (x25519.X25519PublicKey, x25519.X25519PrivateKey),
        "X448": (x448.X448PublicKey, x448.X448PrivateKey),
    }
    kinds_of_key = curves.get(jwk.get("crv"))
    if kinds_of_key is None:
        raise ValueError(f"unknown curve `{jwk.get('crv')}`")
    if "d" in jwk:
        return kinds_of_key[1].from_private_bytes(_bytes(jwk, "d"))
    return kinds_of_key[0].from_public_bytes(_bytes(jwk, "x"))


def _material_is_a_key(row: Mapping[str, Any]) -> str | None:
    jwk, pem = row["jwk"], row["pem"]
    if jwk is not None and not is_reference(jwk):
        return _jwk_problem(jwk, row["kid"])
    if pem is not None and pem.get("public_key") is None and pem.get("private_key") is None:
        return "need to supply a PEM formatted public and/or private key."
    return None


def _jwk_problem(text: str, kid: str) -> str | None:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        jwk = None
    if not isinstance(jwk, dict):
        return "could not json decode jwk string"
    if jwk.get("kid") != kid:
        return "kid in jwk.kid must be equal to keys.kid"
    try:
        load_jwk(jwk)
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        return _NOT_LOADED
    return None


class Pem(Record):
    """A key in PEM, one half of it or both."""

    private_key: str | None = field(
        kinds.string(), required=False, secret=True, referenceable=True, doc="The private half, in PEM."
    )
    public_key: str | None = field(kinds.string(), required=False, referenceable=True, doc="The public half, in PEM.")

    checks = (at_least_one_of("private_key", "public_key"),)
    rule = _pair_matches


class Key(Entity):
    """A key to encrypt, decrypt, sign or verify with."""

    table = "keys"
    endpoint_key = "name"
    cache_key = ("kid", "set")

    id: str = field(common.uuid, doc="Identifies the key.")
    set: dict[str, str] | None = field(
        kinds.foreign("key_sets", on_delete="cascade"), required=False, doc="The key set it belongs to."
    )
    name: str | None = field(kinds.string(), required=False, unique=True, doc="Names the key in URLs of the Admin API.")
    kid: str = field(kinds.string(), required=True, unique=False, doc="Names the key to those who use it.")
    jwk: str | None = field(kinds.string(), secret=True, referenceable=True, doc="The key as a JSON Web Key, in text.")
    pem: dict[str, Any] | None = field(kinds.record(Pem), required=False, doc="The key in PEM.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")

    checks = (
        mutually_exclusive("pem", "jwk"),
        at_least_one_of("pem", "jwk"),
        custom("jwk", "pem", "kid", rule=_material_is_a_key),
    )
