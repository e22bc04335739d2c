# SPDX-License-Identifier: Apache-2.0
"""Does openid-connect let anybody in whom the issuer did not send, or harm the issuer, or believe one that lies?"""

from __future__ import annotations

import base64
import hmac
import json
import time
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.warnings import InsecureKeyLengthWarning

from tests.auth.issuer import (
    CLIENT_SECRET,
    DISCOVERY,
    INTROSPECTION,
    JWKS,
    TOKEN,
    Crowd,
    Issuer,
    Protect,
    jwk_of,
    knock,
    text_of,
    weak_key,
)
from tests.auth.keys import private_key
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin, Received
from tests.support.wait import until


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
    body = f"{text_of(json.dumps(header).encode())}.{text_of(json.dumps(claims).encode())}"
    return f"{body}.{text_of(hmac.digest(secret, body.encode(), 'sha256')) if secret is not None else ''}"


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "", None, 0, ["RS256"]])
def test_alg_none(gateway: Gateway, issuer: Issuer, protect: Protect, name: Any) -> None:
    path = protect(enable_hs_signatures=True)
    assert knock(gateway, path, issuer.token()) == 200
    for secret in (None, CLIENT_SECRET.encode()):
        assert knock(gateway, path, forged({"alg": name, "kid": "first"}, issuer.claims(), secret)) == 401


def test_rs_to_hs_confusion_with_the_key_set(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    """CVE-2016-5431 and its like: everybody knows the key set, so nothing of it is a secret."""
    public = private_key("RS256").public_key()
    jwk = jwk_of(private_key("RS256"), "first")
    known = (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk).encode(),
        json.dumps(issuer.key_set()).encode(),
        jwk["n"].encode(),
        base64.urlsafe_b64decode(jwk["n"] + "=="),
        b"",
    )
    for enabled in (False, True):
        path = protect(enable_hs_signatures=enabled)
        for secret in known:
            assert knock(gateway, path, forged({"alg": "HS256", "kid": "first"}, issuer.claims(), secret)) == 401
        own = forged({"alg": "HS256"}, issuer.claims(), CLIENT_SECRET.encode())
        assert knock(gateway, path, own) == (200 if enabled else 401)


def test_secret_among_the_public_keys(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    secret = b"known to all who can read a key set"
    issuer.say(JWKS, {"keys": [{"kty": "oct", "kid": "first", "k": text_of(secret)}, *issuer.key_set()["keys"]]})
    path = protect(enable_hs_signatures=True)
    assert knock(gateway, path, forged({"alg": "HS256", "kid": "first"}, issuer.claims(), secret)) == 401
    assert knock(gateway, path, issuer.token()) == 200


def test_key_that_the_token_brings_along(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path, own = protect(), private_key("RS256", 3072)
    with Issuer(first=own) as attacker:
        where = attacker.url + JWKS
        header = {"jwk": jwk_of(own, "first"), "jku": where, "x5u": where, "x5c": ["MIIB"]}
        assert knock(gateway, path, issuer.token(header=header, key=own)) == 401
        assert not attacker.origin.requests


@pytest.mark.parametrize("kid", ["../../../../dev/null", "' OR '1'='1", "first\0", "", "x" * 4_000, "\U0001f511"])
def test_kid_injection(gateway: Gateway, issuer: Issuer, protect: Protect, kid: str) -> None:
    path = protect()
    assert knock(gateway, path, issuer.token(kid=kid)) == 401
    assert {received.target for received in issuer.origin.requests} == {DISCOVERY, JWKS}


@pytest.mark.parametrize("bits", [1024, 9216])
def test_weak_and_huge_keys_of_the_issuer(gateway: Gateway, issuer: Issuer, protect: Protect, bits: int) -> None:
    jwk = jwk_of(private_key("RS256"), "odd")
    odd = weak_key(bits) if bits < 2048 else private_key("RS256")
    jwk = jwk_of(odd, "odd") if bits < 2048 else {**jwk, "n": text_of(b"\xff" * (bits // 8))}
    issuer.say(JWKS, {"keys": [jwk, *issuer.key_set()["keys"]]})
    path = protect()
    assert knock(gateway, path, issuer.token()) == 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        token = issuer.token(kid="odd", key=odd)
    assert knock(gateway, path, token) == 401


def test_key_set_flood_by_unknown_kid(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(rediscovery_lifetime=60)
    assert knock(gateway, path, issuer.token()) == 200
    before = issuer.asked(JWKS)
    for number in range(40):
        assert knock(gateway, path, issuer.token(kid=f"unknown-{number}")) == 401
    assert issuer.asked(JWKS) - before <= 1
    assert issuer.asked(DISCOVERY) <= 2
    assert knock(gateway, path, issuer.token(sub="another")) == 200


def test_key_set_flood_at_once_while_the_issuer_is_slow(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(rediscovery_lifetime=60)
    good = issuer.token()
    assert knock(gateway, path, good) == 200
    data, before = json.dumps(issuer.key_set()).encode(), issuer.asked(JWKS)

    def slow(connection: Connection, _: Received) -> None:
        connection.pause(0.3)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))

    issuer.behave(JWKS, slow)
    with Crowd(gateway, path, *(f"Bearer {issuer.token(kid=str(number))}" for number in range(24))) as crowd:
        until(lambda: issuer.asked(JWKS) > before, "the key set to be asked for")
        # Meanwhile whoever is known passes.
        assert knock(gateway, path, good) == 200
        assert {reply.status for reply in crowd.replies()} == {401}
    assert issuer.asked(JWKS) - before == 1


def test_replay_after_the_key_was_withdrawn(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(rediscovery_lifetime=0)
    stolen = issuer.token()
    assert knock(gateway, path, stolen) == knock(gateway, path, stolen) == 200
    issuer.keys = {"second": private_key("RS256", 3072)}
    assert knock(gateway, path, issuer.token()) == 200
    assert knock(gateway, path, stolen) == 401


def test_issuer_mix_up(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    """Of several issuers, none can speak for another."""
    with Issuer(first=private_key("RS256", 3072)) as other:
        path = protect(issuers_allowed=[issuer.url, other.url], extra_jwks_uris=[other.url + JWKS])
        assert knock(gateway, path, issuer.token()) == 200
        assert knock(gateway, path, other.token()) == 200
        assert knock(gateway, path, other.token(iss=issuer.url)) == 401
        assert knock(gateway, path, issuer.token(iss=other.url)) == 401
        alone = protect()
        assert knock(gateway, alone, other.token()) == 401
        assert knock(gateway, alone, other.token(iss=issuer.url)) == 401


@pytest.mark.parametrize("name", [None, "", "http://issuer.test", 7, ["{}"], "{}/", "{}/.", " {}"])
def test_issuer_of_another_name(gateway: Gateway, issuer: Issuer, protect: Protect, name: Any) -> None:
    said = [one.format(issuer.url) for one in name] if isinstance(name, list) else name
    said = said.format(issuer.url) if isinstance(said, str) else said
    assert knock(gateway, protect(), issuer.token(iss=said)) == 401


def test_audience_mix_up(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(audience_required=["api"])
    assert knock(gateway, path, issuer.token(aud="api")) == 200
    assert knock(gateway, path, issuer.token(aud=["other", "api"])) == 200
    for audience in (None, "other", "api2", "API", [], [["api"]], {"api": 1}, 1):
        assert knock(gateway, path, issuer.token(aud=audience)) == 403


def test_id_token_of_another_client_or_user(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(id_token_param_name="X-Id-Token")
    authorization = f"Authorization: Bearer {issuer.token()}"

    def shown(**changes: Any) -> int:
        return gateway.get(path, authorization, f"X-Id-Token: {issuer.token(**{'aud': 'gateway', **changes})}").status

    assert shown() == 200
    for changes in (
        {"aud": "other"},
        {"aud": ["gateway", "other"]},
        {"aud": ["gateway", "other"], "azp": "other"},
        {"azp": ["gateway"]},
        {"sub": "bob"},
        {"sub": None},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"exp": int(time.time()) - 1},
        {"key": private_key("RS256", 3072)},
    ):
        assert shown(**changes) == 401, changes


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -1},
        {"exp": None},
        {"exp": "2999"},
        {"exp": True},
        {"nbf": 100},
        {"iat": 100},
        {"nbf": "now"},
    ],
)
def test_expired_and_not_yet_valid(gateway: Gateway, issuer: Issuer, protect: Protect, changes: dict[str, Any]) -> None:
    now_s = int(time.time())
    moved: dict[str, Any] = {name: now_s + value if type(value) is int else value for name, value in changes.items()}
    assert knock(gateway, protect(), issuer.token(**moved)) == 401
    held = 200 if all(type(value) is int for value in changes.values()) else 401
    assert knock(gateway, protect(leeway=200), issuer.token(**moved)) == held


@pytest.mark.parametrize("kind", ["logout+jwt", "application/secevent+jwt", "DPOP+JWT"])
def test_token_for_another_purpose(gateway: Gateway, issuer: Issuer, protect: Protect, kind: str) -> None:
    assert knock(gateway, protect(), issuer.token(header={"typ": kind})) == 401


def test_malformed_credentials(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    methods = ["bearer", "introspection", "password", "client_credentials", "userinfo", "kong_oauth2"]
    path = protect(auth_methods=methods)
    issuer.say(INTROSPECTION, {"active": False})
    issuer.say(TOKEN, {"error": "invalid_grant"}, "400 Bad Request")
    good = issuer.token()
    shown = [
        b"Bearer",
        b"Bearer ",
        b"Bearer a b",
        b"Bearer " + b"x" * 20_000,
        b"Bearer \xff\xfe.\x80.\x81",
        b"Bearer \xf0\x9f\x94\x91",
        b"Bearer a.b.c",
        b"Bearer ..",
        b"Bearer " + good[:-4].encode(),
        b"Bearer " + good.encode() + b"=",
        b"Bearer " + good.replace(".", "..", 1).encode(),
        b"Basic",
        b"Basic ????",
        b"Basic " + base64.b64encode(b"\xff\xfe:\x80"),
        b"Basic " + base64.b64encode(b"a\0b:c\0d"),
        b"Basic " + base64.b64encode(b"a\r\nb:c"),
        b"Basic " + base64.b64encode(b":"),
        b"Basic " + base64.b64encode(b"x" * 30_000 + b":y"),
        b"\xff",
    ]
    for value in shown:
        head = f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: ".encode()
        assert gateway.send(head + value + b"\r\n\r\n").status in (400, 401), value
    two = gateway.get(path, f"Authorization: Bearer {good}", f"Authorization: Bearer {issuer.token(sub='bob')}")
    assert two.status in (400, 401)
    for query in ("access_token=%00", "access_token=%ff%fe", "access_token=a&access_token=b", "username=%00&password=%ff"):
        assert gateway.get(f"{path}?{query}").status in (400, 401), query
    assert not gateway.failures.containing('"failed"')


def test_line_feed_in_a_claim_makes_no_header(gateway: Gateway, echo: Origin, issuer: Issuer, protect: Protect) -> None:
    path = protect(
        upstream_headers_claims=["sub", "name"],
        upstream_headers_names=["X-Sub", "X-Name"],
        downstream_headers_claims=["name"],
        downstream_headers_names=["X-Name"],
        authenticated_groups_claim=["groups"],
    )
    odd = "a\r\nX-Admin: yes"
    # Half a character is no JSON.
    assert knock(gateway, path, issuer.token(sub="\ud800")) == 401
    oddities: list[dict[str, Any]] = [{"sub": odd, "name": odd, "groups": [odd]}, {"sub": "a\0b"}, {"sub": {}}]
    for changes in oddities:
        token = issuer.token(**changes)
        reply = gateway.get(path, f"Authorization: Bearer {token}", "X-Name: forged", "X-Credential-Identifier: forged")
        assert reply.status == 200
        for name in ("X-Admin", "X-Name", "X-Credential-Identifier", "X-Authenticated-Groups"):
            assert echo.last.header(name) is None, name
        assert reply.header("X-Admin") is None
