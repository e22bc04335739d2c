# SPDX-License-Identifier: Apache-2.0
"""Are signed tokens read, and believed, as their RFCs say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pylae.sdk.jose import (
    ClaimRefused,
    Key,
    KeyRefused,
    KeySet,
    Malformed,
    SignatureRefused,
    check_audience,
    check_issuer,
    check_times,
    numeric_date,
    parse,
    sign,
    verify,
)
from pylae.sdk.jose.encoding import encode_base64url
from tests.support.certificates import self_signed

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


def test_public_key_of_rfc_8037_verifies() -> None:
    token = parse(token_of({"alg": "EdDSA"}, {}, bytes(64)))
    key = Key.from_jwk(RFC_ED25519_KEY)
    assert (key.kind, key.serves("EdDSA"), key.serves("HS256")) == ("OKP", True, False)
    with pytest.raises(SignatureRefused):
        verify(token, key, {"EdDSA"})


def test_certificate_holds_a_public_key(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "issuer.test")
    token = parse(sign({}, made.key.read_bytes(), "ES256"))
    verify(token, Key.from_pem(made.certificate.read_bytes()), {"ES256"})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "form"),
        ("..", "JSON"),
        ("a.b", "form"),
        ("a.b.c.d.e", "form"),
        ("\u00e4.b.c", "form"),
        ("\udcff.b.c", "form"),
        (token_of({"alg": "HS256"}, {}).replace(".", "=.", 1), "JSON"),
        (token_of({"alg": "HS256"}, {"a": "\x7f~~?>"}).replace("-", "+").replace("_", "/"), "JSON"),
        (token_of([], {}), "JSON"),
        (token_of({"alg": "HS256"}, b"\xff"), "JSON"),
        (token_of({"alg": "HS256"}, b'{"a":NaN}'), "JSON"),
        (token_of({"alg": "HS256"}, b'{"a":1e999}'), "JSON"),
        (token_of({"alg": "HS256"}, b'{"a":' + b"9" * 5000 + b"}"), "JSON"),
        (token_of({"alg": "HS256"}, b'{"a":"\\ud800"}'), "JSON"),
        (token_of({"alg": "HS256"}, b'{"a":' * 2000), "JSON"),
        (token_of({}, {}), "alg"),
        (token_of({"alg": None}, {}), "alg"),
        (token_of({"alg": ["HS256"]}, {}), "alg"),
        (token_of({"alg": "none"}, {}, b""), "alg"),
        (token_of({"alg": "NONE"}, {}), "alg"),
        (token_of({"alg": "hs256"}, {}), "alg"),
        (token_of({"alg": "HS256", "crit": ["exp"]}, {}), "crit"),
        (token_of({"alg": "HS256", "b64": False}, {}), "crit"),
        (token_of({"alg": "HS256"}, 3), "claims"),
        (token_of({"alg": "HS256"}, {}, b""), "signature"),
        (token_of({"alg": "HS256"}, {}) + "=", "signature"),
        (token_of({"alg": "HS256"}, {"a": "x" * 20_000}), "form"),
    ],
)
def test_what_is_no_token_says_which_part_is_not(text: str, part: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert caught.value.part == part


def test_nothing_of_token_or_key_is_in_what_is_printed() -> None:
    token = parse(sign({"a": "claim-of-somebody"}, SECRET, "HS256"))
    key = Key.from_secret(SECRET)
    assert (repr(token), repr(key), repr(KeySet([key]))) == ("<token HS256>", "<key oct>", "<key set 1 keys>")


def test_key_serves_the_algorithms_of_its_kind_only() -> None:
    token = parse(sign({}, public_pem("EdDSA").replace(b"-----BEGIN", b"-----begin"), "HS256"))
    for key in (Key.from_pem(public_pem("EdDSA")), Key.from_jwk(jwk_of("RSA"))):
        with pytest.raises(SignatureRefused) as caught:
            verify(token, key, {"HS256", "EdDSA", "RS256"})
        assert caught.value.is_key_missing


def test_algorithm_that_is_not_expected_is_refused() -> None:
    with pytest.raises(SignatureRefused):
        verify(parse(sign({}, SECRET, "HS512")), Key.from_secret(SECRET), {"HS256"})


@pytest.mark.parametrize("secret", ["", public_pem("RSA"), "ssh-rsa AAAA"])
def test_what_everybody_may_know_is_no_secret(secret: str | bytes) -> None:
    with pytest.raises(KeyRefused):
        Key.from_secret(secret)


def test_secret_has_the_length_that_is_asked_for() -> None:
    Key.from_secret("x" * 32, min_bytes=32)
    with pytest.raises(KeyRefused):
        Key.from_secret("x" * 31, min_bytes=32)


def weak(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def test_weak_key_is_refused() -> None:
    public = weak(1024).public_key()
    with pytest.raises(KeyRefused):
        Key.from_pem(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    numbers = public.public_numbers()
    with pytest.raises(KeyRefused):
        Key.from_jwk({"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)})


def _number(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": None},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 3, "e": "AQAB"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "n": _number((1 << 8200) - 1), "e": "AQAB"},
        {"kty": "RSA", "n": _number((1 << 100_000) - 1), "e": "AQAB"},
        {"kty": "RSA", "n": _number((1 << 2048) - 1), "e": "AQ"},
        {"kty": "RSA", "n": _number((1 << 2048) - 1), "e": _number((1 << 64) + 1)},
        {"kty": "EC"},
        {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"},
        {"kty": "EC", "crv": "P-256", "x": _number((1 << 256) - 1), "y": _number((1 << 256) - 1)},
        {"kty": "OKP", "crv": "X25519", "x": RFC_ED25519_KEY["x"]},
        {"kty": "OKP", "crv": "Ed25519", "x": "AQ"},
        {"kty": "oct"},
        {"kty": "oct", "k": "\u00e4"},
        {"kty": "oct", "k": ["x"]},
        jwk_of("RSA", use="enc"),
        jwk_of("RSA", key_ops=["encrypt"]),
        jwk_of("RSA", key_ops="verify"),
        jwk_of("RSA", alg="HS256"),
        jwk_of("RSA", alg="RSA-OAEP"),
        jwk_of("ES256", alg="ES384"),
        jwk_of("RSA", kid=1),
    ],
)
def test_key_that_cannot_be_used_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(KeyRefused):
        Key.from_jwk(jwk)


@pytest.mark.parametrize(
    "pem", ["", "no key", b"\xff" * 100, "x" * 20_000, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"]
)
def test_pem_that_holds_no_public_key_is_refused(pem: str | bytes) -> None:
    with pytest.raises(KeyRefused):
        Key.from_pem(pem)


def test_curve_that_no_algorithm_has_is_refused() -> None:
    public = ec.generate_private_key(ec.SECP256K1()).public_key()
    with pytest.raises(KeyRefused):
        Key.from_pem(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_key_set_leaves_out_what_cannot_be_used() -> None:
    document = {"keys": [jwk_of("RSA", kid="r"), {"kty": "new"}, 3, RFC_KEY, jwk_of("ES256", kid="e")]}
    keys = KeySet.from_json(json.dumps(document).encode())
    assert [key.key_id for key in keys.keys] == ["r", "e"]
    assert len(keys.refused) == 3
    assert len(KeySet.from_json(document, holds_secrets=True).keys) == 3


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff"])
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(KeyRefused):
        KeySet.from_json(data)


def test_token_that_names_its_key_is_verified_with_no_other() -> None:
    keys = KeySet.from_json({"keys": [jwk_of("RSA", kid="1"), jwk_of("RSA", kid="2"), jwk_of("ES256", kid="3"), jwk_of("RSA")]})
    pem = private_pem("RSA")
    assert [key.key_id for key in keys.candidates(parse(sign({}, pem, "RS256", {"kid": "2"})))] == ["2"]
    assert keys.candidates(parse(sign({}, pem, "RS256", {"kid": "3"}))) == []
    assert keys.candidates(parse(sign({}, pem, "RS256", {"kid": "new"}))) == []
    assert [key.key_id for key in keys.candidates(parse(sign({}, pem, "RS256")))] == ["1", "2", None]


NOW_S = 1_000_000


@pytest.mark.parametrize(
    ("claims", "refused"),
    [
        ({}, None),
        ({"exp": NOW_S + 1, "nbf": NOW_S, "iat": NOW_S}, None),
        ({"exp": NOW_S}, "exp"),
        ({"exp": "1"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 10**300}, None),
        ({"exp": -(10**300)}, "exp"),
        ({"nbf": NOW_S + 1}, "nbf"),
        ({"nbf": []}, "nbf"),
        ({"iat": NOW_S + 1}, "iat"),
        ({"iat": {}}, "iat"),
    ],
)
def test_times_are_checked(claims: dict[str, Any], refused: str | None) -> None:
    if refused is None:
        check_times(claims, NOW_S + 0.5, skew_s=0.0)
        return
    with pytest.raises(ClaimRefused) as caught:
        check_times(claims, float(NOW_S))
    assert caught.value.claim == refused


def test_clocks_may_differ_by_the_skew() -> None:
    check_times({"exp": NOW_S - 29, "nbf": NOW_S + 30, "iat": NOW_S + 30}, NOW_S, skew_s=30)
    for claims in ({"exp": NOW_S - 30}, {"nbf": NOW_S + 31}, {"iat": NOW_S + 31}):
        with pytest.raises(ClaimRefused):
            check_times(claims, NOW_S, skew_s=30)


def test_end_and_age_may_be_asked_for() -> None:
    check_times({"exp": NOW_S + 1, "iat": NOW_S - 60}, NOW_S, requires_end=True, max_age_s=60)
    for claims in ({"iat": NOW_S}, {"exp": NOW_S + 1}, {"exp": NOW_S + 1, "iat": NOW_S - 61}):
        with pytest.raises(ClaimRefused):
            check_times(claims, NOW_S, requires_end=True, max_age_s=60)
    assert numeric_date({}, "exp") is None


@pytest.mark.parametrize("issuer", [None, "", "https://idp.test", "https://idp.test/x", ["https://idp.test/"]])
def test_issuer_is_compared_character_by_character(issuer: Any) -> None:
    check_issuer({"iss": "https://idp.test/"}, {"https://idp.test/"})
    with pytest.raises(ClaimRefused):
        check_issuer({"iss": issuer}, {"https://idp.test/"})


@pytest.mark.parametrize("audience", [None, "", "other", [], ["other"], [["api"]], {"api": 1}, 3])
def test_token_for_others_is_refused(audience: Any) -> None:
    for right in ("api", ["other", "api"]):
        check_audience({"aud": right}, {"api"})
    with pytest.raises(ClaimRefused):
        check_audience({"aud": audience}, {"api"})


@pytest.mark.parametrize(
    ("material", "algorithm"), [("", "HS256"), (SECRET, "RS256"), (private_pem("RSA"), "ES256"), (SECRET, "none")]
)
def test_nothing_is_signed_with_an_unfit_key(material: str | bytes, algorithm: str) -> None:
    with pytest.raises(KeyRefused):
        sign({}, material, algorithm)
