# SPDX-License-Identifier: Apache-2.0
"""Does jwt answer as its facts say?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pylae.plugins.jwt.plugin import Jwt
from pylae.sdk import SchemaViolation
from pylae.sdk.auth import facts_of
from pylae.sdk.jose import sign
from pylae.sdk.testing import START_MS, MemoryExchange, Outcome, Scene, validated

NOW_S = START_MS // 1000
ALICE: dict[str, Any] = {
    "id": "a1111111-1111-4111-8111-111111111111",
    "username": "alice",
    "custom_id": "42",
    "created_at": 1,
}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
SECRET = "secret"
HS256: dict[str, Any] = {
    "id": "c1111111-1111-4111-8111-111111111111",
    "key": "issuer",
    "secret": SECRET,
    "algorithm": "HS256",
    "rsa_public_key": None,
    "consumer": {"id": ALICE["id"]},
    "tags": None,
}
_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def private_pem(algorithm: str) -> bytes:
    key = _KEYS.get(algorithm, _KEYS["RS256"])
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_pem(algorithm: str) -> str:
    key = _KEYS.get(algorithm, _KEYS["RS256"]).public_key()
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def scene_with(*credentials: dict[str, Any], **config: Any) -> Scene:
    return Scene(Jwt, config, rows={"consumers": [ALICE, GUEST], "jwt_secrets": credentials or [HS256]})


def token(algorithm: str = "HS256", secret: str | bytes = SECRET, header: dict[str, Any] | None = None, **claims: Any) -> str:
    return sign({"iss": "issuer", **claims}, secret, algorithm, header)


def send(scene: Scene, text: str, **more: Any) -> Outcome:
    return scene.send(headers={"Authorization": f"Bearer {text}"}, **more)


def unsigned(header: Any, claims: Any, signature: bytes = b"s") -> str:
    pieces = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(piece).rstrip(b"=").decode() for piece in (*pieces, signature))


def assert_refused(outcome: Outcome, message: str, challenge: str | None = 'Bearer error="invalid_token"') -> None:
    assert (outcome.status, outcome.json()) == (401, {"message": message})
    assert outcome.headers.get("www-authenticate") == challenge
    assert outcome.upstream is None


def test_right_token_passes_and_tells_the_upstream_who_it_is() -> None:
    with scene_with() as scene:
        for _ in ("verified", "remembered"):
            outcome = scene.send(headers={"Authorization": f"Bearer {token()}", "X-Anonymous-Consumer": "true"})
            assert outcome.status == 200
            assert outcome.upstream is not None
            headers = outcome.upstream.get_headers()
            assert headers["x-consumer-id"] == ALICE["id"]
            assert headers["x-consumer-custom-id"] == "42"
            assert headers["x-consumer-username"] == "alice"
            assert headers["x-credential-identifier"] == "issuer"
            assert "x-anonymous-consumer" not in headers
            assert headers["authorization"] == f"Bearer {token()}"


def test_later_plugins_learn_what_the_token_says() -> None:
    text = token(sub="s", exp=NOW_S + 60)
    with scene_with() as scene:
        outcome = send(scene, text)
    assert outcome.exchange.ctx["authenticated_jwt_token"] == text
    facts = facts_of(outcome.exchange)
    assert facts.methods == ["jwt"]
    assert (facts.subject, facts.issuer, facts.expires_at_s) == ("s", "issuer", NOW_S + 60)
    assert facts.claims["sub"] == "s"


@pytest.mark.parametrize(
    "algorithm",
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
)
def test_every_algorithm_passes(algorithm: str) -> None:
    is_shared = algorithm.startswith("HS")
    credential = {**HS256, "algorithm": algorithm, "rsa_public_key": None if is_shared else public_pem(algorithm)}
    with scene_with(credential) as scene:
        text = token(algorithm, SECRET if is_shared else private_pem(algorithm))
        assert send(scene, text).status == 200
        assert send(scene, text).status == 200
        assert_refused(send(scene, text[:-8] + "AAAAAAAA"), "Invalid signature")


def test_missing_token_is_refused_with_a_plain_challenge() -> None:
    with scene_with() as scene:
        assert_refused(scene.send(headers={"Accept": "text/html"}), "Unauthorized", "Bearer")
        assert_refused(scene.send(headers={"Authorization": "Basic YTpi"}), "Unauthorized", "Bearer")
        assert_refused(scene.send(headers={"Authorization": "Bearer "}), "Unauthorized", "Bearer")
        assert_refused(scene.send(target="/?jwt="), "Unauthorized", "Bearer")


def test_challenges_name_the_realm() -> None:
    with scene_with(realm="orders") as scene:
        assert_refused(scene.send(), "Unauthorized", 'Bearer realm="orders"')
        assert_refused(send(scene, "a.b.c"), "Bad token; invalid JSON", 'Bearer realm="orders", error="invalid_token"')


def test_token_is_found_in_query_cookie_and_header() -> None:
    text = token()
    with scene_with(uri_param_names=["jwt", "t"], cookie_names=["session"], header_names=["authorization", "X-Token"]) as scene:
        assert scene.send(target=f"/?t={text}").status == 200
        assert scene.send(headers={"Cookie": f"a=b; session={text}; c=d"}).status == 200
        assert scene.send(headers={"Cookie": [f'session="{text}"', "e=f"]}).status == 200
        assert scene.send(headers={"X-Token": f"bearer {text}"}).status == 200
        assert_refused(scene.send(headers={"X-Token": text}), "Unauthorized", "Bearer")


def test_same_token_twice_is_one_token() -> None:
    text = token()
    with scene_with() as scene:
        assert scene.send(target=f"/?jwt={text}&jwt={text}", headers={"Authorization": f"Bearer {text}"}).status == 200


def test_argument_without_value_is_no_token() -> None:
    with scene_with() as scene:
        assert_refused(scene.send(target="/?jwt"), "Unrecognizable token")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "Bad token; invalid JSON"),
        ("a.b", "Bad token; invalid JSON"),
        ("a.b.c.d", "Bad token; invalid JSON"),
        ("\udcff.b.c", "Bad token; invalid JSON"),
        (unsigned(b"{", {}), "Bad token; invalid JSON"),
        (unsigned({"alg": "HS256"}, b"\xff"), "Bad token; invalid JSON"),
        (unsigned({"alg": "HS256"}, b"[" * 5000), "Bad token; invalid JSON"),
        (unsigned({}, {}), "Bad token; invalid alg"),
        (unsigned({"alg": 1}, {}), "Bad token; invalid alg"),
        (unsigned({"alg": "ES256K"}, {}), "Bad token; invalid alg"),
        (unsigned({"alg": "HS256"}, []), "Bad token; invalid claims"),
        (unsigned({"alg": "HS256"}, {}, b""), "Bad token; invalid signature"),
        (unsigned({"alg": "HS256"}, {}) + "!", "Bad token; invalid signature"),
        (unsigned({"alg": "HS256"}, {}), "No mandatory 'iss' in claims"),
        (unsigned({"alg": "HS256"}, {"iss": ""}), "Invalid 'iss' in claims"),
        (unsigned({"alg": "HS256"}, {"iss": ["issuer"]}), "Invalid 'iss' in claims"),
        (unsigned({"alg": "HS256"}, {"iss": "other"}), "No credentials found for given 'iss'"),
        (unsigned({"alg": "HS256"}, {"iss": "issuer\0"}), "No credentials found for given 'iss'"),
        (unsigned({"alg": "HS512"}, {"iss": "issuer"}), "Invalid algorithm"),
        (unsigned({"alg": "HS256"}, {"iss": "issuer"}), "Invalid signature"),
        ("a." * 40_000, "Bad token; invalid JSON"),
    ],
)
def test_bad_token_is_refused(text: str, message: str) -> None:
    with scene_with() as scene:
        assert_refused(send(scene, text), message)


def test_key_may_be_in_another_claim_or_in_the_header() -> None:
    with scene_with(key_claim_name="kid") as scene:
        assert send(scene, sign({"kid": "issuer"}, SECRET, "HS256")).status == 200
        assert send(scene, sign({"iss": "other"}, SECRET, "HS256", {"kid": "issuer"})).status == 200
        assert_refused(send(scene, sign({"iss": "issuer"}, SECRET, "HS256")), "No mandatory 'kid' in claims")


def test_secret_may_be_base64() -> None:
    credential = {**HS256, "secret": base64.b64encode(b"\xfb\xff secret").decode()}
    with scene_with(credential, secret_is_base64=True) as scene:
        assert send(scene, token(secret=b"\xfb\xff secret")).status == 200
        assert_refused(send(scene, token(secret=credential["secret"])), "Invalid signature")
    with scene_with({**HS256, "secret": "=?="}, secret_is_base64=True) as scene:
        assert_refused(send(scene, token()), "Invalid key/secret")


@pytest.mark.parametrize("pem", [None, "", "no key", public_pem("ES256")])
def test_credential_without_a_fitting_key_verifies_nothing(pem: str | None) -> None:
    with scene_with({**HS256, "algorithm": "RS256", "rsa_public_key": pem}) as scene:
        assert_refused(send(scene, token("RS256", private_pem("RS256"))), "Invalid key/secret")


@pytest.mark.parametrize(
    ("claims", "wrong"),
    [
        ({"exp": NOW_S + 1, "nbf": NOW_S}, None),
        ({"exp": NOW_S, "nbf": NOW_S}, {"exp": "token expired"}),
        ({"exp": NOW_S + 1, "nbf": NOW_S + 1}, {"nbf": "token not valid yet"}),
        ({"exp": NOW_S - 1, "nbf": NOW_S + 1}, {"exp": "token expired", "nbf": "token not valid yet"}),
        ({}, {"exp": "must be a number", "nbf": "must be a number"}),
        ({"exp": "1", "nbf": True}, {"exp": "must be a number", "nbf": "must be a number"}),
        ({"exp": 10**30, "nbf": -1.5}, None),
    ],
)
def test_times_are_verified(claims: dict[str, Any], wrong: dict[str, str] | None) -> None:
    with scene_with(claims_to_verify=["exp", "nbf"]) as scene:
        for _ in ("verified", "remembered"):
            outcome = send(scene, token(**claims))
            if wrong is None:
                assert outcome.status == 200
            else:
                assert (outcome.status, outcome.json()) == (401, wrong)
                assert outcome.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_end_may_not_be_too_far_off() -> None:
    with scene_with(claims_to_verify=["exp"], maximum_expiration=300) as scene:
        assert send(scene, token(exp=NOW_S + 300)).status == 200
        assert send(scene, token(exp=NOW_S + 301)).json() == {"exp": "exceeds maximum allowed expiration"}


def test_limit_of_the_end_needs_the_end_verified() -> None:
    with pytest.raises(SchemaViolation):
        validated(Jwt, {"maximum_expiration": 300, "claims_to_verify": ["nbf"]})
    with scene_with(maximum_expiration=300) as scene:
        assert send(scene, token()).json() == {"exp": "exceeds maximum allowed expiration"}


def test_token_without_verified_end_passes_after_it() -> None:
    with scene_with() as scene:
        assert send(scene, token(exp=NOW_S - 1)).status == 200
        assert send(scene, token(exp=NOW_S - 1)).status == 200
        assert send(scene, token(exp="soon")).status == 200


def test_credential_of_a_consumer_that_cannot_be_loaded_is_refused_without_a_challenge() -> None:
    with Scene(Jwt, {}, rows={"jwt_secrets": [HS256]}) as scene:
        assert_refused(send(scene, token()), "Could not find consumer for 'iss=issuer'", None)


def test_preflight_may_pass_without_token() -> None:
    with scene_with(run_on_preflight=False) as scene:
        assert scene.send("OPTIONS").status == 200
        assert scene.send("GET").status == 401
    with scene_with() as scene:
        assert scene.send("OPTIONS").status == 401


@pytest.mark.parametrize("anonymous", ["guest", GUEST["id"]])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer a.b.c"}, {"Authorization": f"Bearer {token(exp=1)}"}])
def test_refused_client_passes_as_the_anonymous_consumer(anonymous: str, headers: dict[str, Any]) -> None:
    with scene_with(anonymous=anonymous, claims_to_verify=["exp"]) as scene:
        outcome = scene.send(headers={**headers, "X-Credential-Identifier": "forged"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    upstream_headers = outcome.upstream.get_headers()
    assert upstream_headers["x-consumer-id"] == GUEST["id"]
    assert upstream_headers["x-anonymous-consumer"] == "true"
    assert "x-credential-identifier" not in upstream_headers


def test_missing_anonymous_consumer_is_a_server_error() -> None:
    with scene_with(anonymous="nobody") as scene:
        outcome = scene.send()
    assert outcome.status == 500
    assert outcome.json()["message"] == "anonymous consumer nobody is configured but doesn't exist"


def test_client_authenticated_by_another_plugin_passes_where_anonymous_is_set() -> None:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": "another plugin's"})

    with Scene(Jwt, {"anonymous": "guest"}, rows={"consumers": [GUEST]}, prepare_exchange=authenticate) as scene:
        outcome = scene.send()
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None


def test_changes_reach_what_is_remembered() -> None:
    with scene_with() as scene:
        assert send(scene, token()).status == 200
        scene.host.change("consumers", ALICE["id"], username="alicia")
        outcome = send(scene, token())
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Consumer-Username") == "alicia"
        scene.host.change("jwt_secrets", HS256["id"], secret="changed")
        assert_refused(send(scene, token()), "Invalid signature")
        assert send(scene, token(secret="changed")).status == 200


def test_verified_token_is_not_verified_again_until_it_ends() -> None:
    with scene_with(claims_to_verify=["exp"]) as scene:
        assert isinstance(scene.plugin, Jwt)
        text = token(exp=NOW_S + 10)
        assert send(scene, text).status == 200
        assert len(scene.host.calls) == 1
        assert repr(scene.plugin._verified) == "<verified 1 decisions>"
        scene.clock.turn(seconds=10)
        assert send(scene, text).json() == {"exp": "token expired"}
        assert repr(scene.plugin._verified) == "<verified 0 decisions>"


def test_configurations_do_not_share_what_they_verify_by() -> None:
    plain = scene_with()
    with plain as scene:
        assert send(scene, token()).status == 200
        text = sign({"iss": "issuer", "kid": "other"}, SECRET, "HS256")
        assert send(scene, text).status == 200
        by_kid = Jwt.prepare(Jwt.Config.load(validated(Jwt, {"key_claim_name": "kid"})), None)  # type: ignore[arg-type] # not looked at
        assert by_kid.tag != scene.config.tag


def test_claims_are_judged_before_the_consumer_and_after_the_signature() -> None:
    with scene_with(claims_to_verify=["exp"]) as scene:
        assert_refused(send(scene, token(secret="wrong", exp=1)), "Invalid signature")


def test_nothing_of_a_token_is_logged() -> None:
    with scene_with() as scene:
        outcome = send(scene, token(secret="wrong"))
    assert outcome.lines == []
