# SPDX-License-Identifier: Apache-2.0
"""Which keys are taken?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pylae import entities
from pylae.errors import SchemaViolation

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
REFERENCE = "{vault://env/a-key}"


def _text(number: int) -> str:
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _rsa_jwk(*, private: bool, factors: bool = True) -> dict[str, Any]:
    numbers = RSA.private_numbers()
    jwk = {"kty": "RSA", "n": _text(numbers.public_numbers.n), "e": _text(numbers.public_numbers.e)}
    if private:
        jwk["d"] = _text(numbers.d)
        if factors:
            jwk |= {"p": _text(numbers.p), "q": _text(numbers.q)}
    return jwk


def _ec_jwk(**changes: Any) -> dict[str, Any]:
    numbers = EC.private_numbers()
    public = numbers.public_numbers
    return {"kty": "EC", "crv": "P-256", "x": _text(public.x), "y": _text(public.y), "d": _text(numbers.private_value), **changes}


def _ed_jwk(**changes: Any) -> dict[str, Any]:
    public = ED.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(public), **changes}


def _pem(key: Any) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("keys").insert({"kid": "k", **values})
    assert caught.value.fields is not None
    return caught.value.fields


@pytest.mark.parametrize(
    "jwk",
    [
        _rsa_jwk(private=False),
        _rsa_jwk(private=True),
        _rsa_jwk(private=True, factors=False),
        _ec_jwk(),
        {name: value for name, value in _ec_jwk().items() if name != "d"},
        _ed_jwk(),
        _ed_jwk(d=_encoded(b"a" * 32)),
    ],
    ids=lambda jwk: f"{jwk['kty']}-{len(jwk)}",
)
def test_a_jwk_of_a_known_type_is_taken_as_it_is_written(jwk: dict[str, Any]) -> None:
    text = json.dumps({"kid": "k", **jwk})
    assert entities.schema("keys").insert({"kid": "k", "jwk": text})["jwk"] == text


REFUSED_JWKS = [
    ("no json", "could not json decode jwk string"),
    ("[]", "could not json decode jwk string"),
    ("5", "could not json decode jwk string"),
    (json.dumps({"kid": "x", **_ed_jwk()}), "kid in jwk.kid must be equal to keys.kid"),
    (json.dumps({"kid": "k"}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", "kty": "oct", "k": "AAAA"}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ec_jwk(x="AAAA")}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ec_jwk(crv="P-1")}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ec_jwk(crv=["P-1"])}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ec_jwk(d="AAAA")}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ed_jwk(x="ä")}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ed_jwk(x=5)}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_ed_jwk(crv="Ed1")}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_rsa_jwk(private=True), "p": "AAAA"}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_rsa_jwk(private=False), "d": "AAAA"}), "could not load JWK, likely not a valid key"),
    (json.dumps({"kid": "k", **_rsa_jwk(private=False), "e": ""}), "could not load JWK, likely not a valid key"),
]


@pytest.mark.parametrize(("jwk", "text"), REFUSED_JWKS, ids=[str(at) for at in range(len(REFUSED_JWKS))])
def test_a_jwk_that_is_no_key_is_refused(jwk: str, text: str) -> None:
    assert _fields({"jwk": jwk}) == {"@entity": [text]}


def test_a_key_in_pem_is_taken_whole_or_by_half() -> None:
    private, public = _pem(RSA)
    for pem in ({"private_key": private, "public_key": public}, {"private_key": private}, {"public_key": public}):
        row = entities.schema("keys").insert({"kid": "k", "pem": pem})
        assert row["pem"] == {"private_key": None, "public_key": None, **pem}


def test_halves_that_are_no_keys_or_do_not_belong_together_are_refused() -> None:
    private, public = _pem(EC)
    assert _fields({"pem": {"public_key": private}}) == {"pem": "could not load public key"}
    assert _fields({"pem": {"private_key": public}})["pem"].startswith("could not load private key")
    assert _fields({"pem": {"private_key": _pem(RSA)[0], "public_key": public}}) == {
        "pem": "public key does not match private key"
    }


def test_what_a_vault_holds_is_not_looked_at() -> None:
    schema = entities.schema("keys")
    assert schema.insert({"kid": "k", "jwk": REFERENCE})["jwk"] == REFERENCE
    assert schema.insert({"kid": "k", "pem": {"private_key": REFERENCE, "public_key": "p"}})["pem"]["public_key"] == "p"
    certificate = entities.schema("certificates").insert({"cert": REFERENCE, "key": REFERENCE})
    assert certificate["cert"] == REFERENCE


@pytest.mark.parametrize("text", ["{vault://}", "{vault://env/}", "vault://env/a", "{vault://env/a} "])
def test_what_only_looks_like_a_reference_is_looked_at(text: str) -> None:
    assert _fields({"jwk": text}) == {"@entity": ["could not json decode jwk string"]}
