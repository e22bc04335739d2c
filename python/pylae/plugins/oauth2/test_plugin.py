# SPDX-License-Identifier: Apache-2.0
"""Does oauth2 answer as its facts say?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from pylae.plugins.oauth2 import hashes
from pylae.plugins.oauth2.plugin import Oauth2
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Chain, MemoryExchange, Outcome, Scene, validated

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ALICE: dict[str, Any] = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "custom_id": "42", "created_at": 1}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
HOME, OTHER_HOME = "https://app.test/back", "https://app.test/other?a=b"
VERIFIER = "v" * 43
SECRET_FIELD = "client_secret"


def application(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"c{number}111111-1111-4111-8111-111111111111",
        "created_at": 1,
        "name": f"app-{number}",
        "client_id": f"app-{number}",
        SECRET_FIELD: f"secret-{number}",
        "hash_secret": False,
        "client_type": "confidential",
        "redirect_uris": [HOME, OTHER_HOME],
        "consumer": {"id": ALICE["id"]},
        **fields,
    }


APP, RIVAL = application(1), application(2, redirect_uris=["https://rival.test/back"])
HASHED = application(3, **{SECRET_FIELD: hashes.hashed("secret-3"), "hash_secret": True})
PUBLIC = application(4, client_type="public")
ALL_FLOWS = {f"enable_{name}": True for name in ("authorization_code", "implicit_grant", "client_credentials", "password_grant")}


def over_tls(exchange: MemoryExchange) -> None:
    exchange.client.protocol = "https"


def scene_with(*, prepare_exchange: Any = over_tls, **config: Any) -> Scene:
    rows = {"consumers": [ALICE, GUEST], "oauth2_credentials": [APP, RIVAL, HASHED, PUBLIC]}
    settings = {"provision_key": "provision", **ALL_FLOWS, **config}
    return Scene(Oauth2, settings, rows=rows, prepare_exchange=prepare_exchange)


def post(scene: Chain, path: str, headers: Mapping[str, Any] | None = None, **fields: Any) -> Outcome:
    body = urlencode({name: value for name, value in fields.items() if value is not None}, doseq=True).encode()
    return scene.send("POST", path, headers={**FORM, **(headers or {})}, body=body)


def authorize(scene: Chain, **fields: Any) -> Outcome:
    usual = {
        "client_id": "app-1",
        "response_type": "code",
        "provision_key": "provision",
        "authenticated_userid": "user-7",
    }
    return post(scene, "/api/oauth2/authorize", **{**usual, **fields})


def ask_token(scene: Chain, grant: str, headers: Any = None, **fields: Any) -> Outcome:
    usual = {"client_id": "app-1", SECRET_FIELD: "secret-1", "grant_type": grant}
    return post(scene, "/api/oauth2/token", headers, **{**usual, **fields})


def sent_back(outcome: Outcome) -> dict[str, str]:
    """What the address says that the user is sent back to."""
    parts = urlsplit(outcome.json()["redirect_uri"])
    return {name: values[0] for name, values in parse_qs(parts.fragment or parts.query).items()}


def a_code(scene: Chain, **fields: Any) -> str:
    return sent_back(authorize(scene, **fields))["code"]


def a_token(scene: Chain, **fields: Any) -> dict[str, Any]:
    outcome = ask_token(scene, "authorization_code", code=a_code(scene), **fields)
    assert outcome.status == 200, outcome.body
    answered: dict[str, Any] = outcome.json()
    return answered


def call(scene: Chain, token: str, **more: Any) -> Outcome:
    return scene.send(headers={"Authorization": f"Bearer {token}"}, **more)


def assert_refused(outcome: Outcome, error: str, description: str, status: int = 400, challenge: str | None = None) -> None:
    assert outcome.status == status, outcome.body
    body = outcome.json()
    assert (body["error"], body["error_description"]) == (error, description)
    assert outcome.headers.get("www-authenticate") == challenge
    assert outcome.upstream is None


# === calling with a token ===


def test_missing_token_is_asked_for() -> None:
    with scene_with(realm="orders") as scene:
        missing = ("invalid_request", "The access token is missing", 401, 'Bearer realm="orders"')
        assert_refused(scene.send(), *missing)
        assert_refused(scene.send(headers={"Authorization": "Basic YTpi"}), *missing)
        assert_refused(scene.send(target="/?access_token="), *missing)
        invalid = "The access token is invalid or has expired"
        challenge = f'Bearer realm="orders", error="invalid_token", error_description="{invalid}"'
        assert_refused(call(scene, "unknown"), "invalid_token", invalid, 401, challenge)


def test_token_is_found_wherever_it_may_be_and_hidden_where_told_so() -> None:
    with scene_with(hide_credentials=True, auth_header_name="X-Token") as scene:
        token = a_token(scene)["access_token"]
        json_type = {"Content-Type": "application/json"}
        outcomes = [
            scene.send(headers={"X-Token": f"bearer {token}"}),
            scene.send(headers={"x-token": f"Token  {token}"}),
            scene.send(target=f"/?a=1&access_token={token}&b=2"),
            post(scene, "/", a="1", access_token=token),
            scene.send("POST", headers=json_type, body=f'{{"a":1,"access_token":"{token}"}}'.encode()),
        ]
        for outcome in outcomes:
            upstream = outcome.upstream
            assert upstream is not None, outcome.body
            assert token not in f"{upstream.get_headers()} {upstream.raw_query} {upstream.sent_body!r}"
        assert outcomes[2].upstream is not None
        assert outcomes[2].upstream.raw_query == "a=1&b=2"
        assert scene.send(headers={"Authorization": f"Bearer {token}"}).status == 401


def test_token_that_is_refused_stays_here_when_the_client_passes_all_the_same() -> None:
    with scene_with(hide_credentials=True, anonymous="guest") as scene:
        outcome = call(scene, "unknown", target="/?access_token=unknown")
        assert outcome.upstream is not None
        assert "unknown" not in f"{outcome.upstream.get_headers()} {outcome.upstream.raw_query}"


def test_different_tokens_are_refused_and_the_same_one_twice_is_one() -> None:
    with scene_with() as scene:
        token = a_token(scene)["access_token"]
        assert call(scene, token, target=f"/?access_token={token}").status == 200
        for target in ("/?access_token=other", f"/?access_token={token}&access_token=other"):
            outcome = call(scene, token, target=target)
            assert (outcome.status, outcome.json()["error"]) == (400, "invalid_request")
            assert str(outcome.headers["www-authenticate"]).startswith('Bearer error="invalid_request"')


def test_revoked_token_passes_no_more() -> None:
    with scene_with() as scene:
        by_token, by_client, by_consumer = (a_token(scene)["access_token"] for _ in range(3))
        assert {call(scene, token).status for token in (by_token, by_client, by_consumer)} == {200}
        row = next(row for row in scene.host.rows["oauth2_tokens"] if row["access_token"] == by_token)
        scene.host.remove("oauth2_tokens", row["id"])
        assert call(scene, by_token).status == 401
        assert call(scene, by_client).status == 200
        scene.host.remove("consumers", ALICE["id"])
        assert call(scene, by_consumer).status == 500


def test_token_is_good_for_its_service() -> None:
    with scene_with() as scene:
        token = a_token(scene)["access_token"]
        scene.service = {"id": "29999999-2222-4222-8222-222222222222", "name": "other", "host": "other.test"}
        outcome = call(scene, token)
        assert (outcome.status, outcome.json()["error"]) == (401, "invalid_token")


def test_global_token_is_good_wherever_that_is_wanted() -> None:
    with scene_with(global_credentials=True) as scene:
        token = a_token(scene)["access_token"]
        assert scene.host.rows["oauth2_tokens"][0]["service"] is None
        scene.service = {"id": "29999999-2222-4222-8222-222222222222", "name": "other", "host": "other.test"}
        assert call(scene, token).status == 200
        scene.links[0].config.is_global = False
        outcome = call(scene, token)
        assert (outcome.status, outcome.json()["error"]) == (401, "invalid_token")
        assert outcome.json()["error_description"].startswith("The access token is global, but")


def test_anonymous_consumer_is_who_cannot_be_authenticated() -> None:
    with scene_with(anonymous="guest") as scene:
        claimed = {"X-Authenticated-UserId": "admin", "X-Authenticated-Scope": "all", "Authorization": "Bearer unknown"}
        outcome = scene.send(headers=claimed)
        assert outcome.upstream is not None
        headers = outcome.upstream.get_headers()
        assert (headers["x-consumer-username"], headers["x-anonymous-consumer"]) == ("guest", "true")
        assert not {"x-authenticated-userid", "x-authenticated-scope", "x-credential-identifier"} & headers.keys()
        # The endpoints are asked all the same.
        assert ask_token(scene, "client_credentials").status == 200
    with scene_with(anonymous="nobody") as scene:
        outcome = scene.send()
        assert (outcome.status, outcome.json()["message"]) == (
            500,
            "anonymous consumer nobody is configured but doesn't exist",
        )


def test_whoever_was_authenticated_needs_no_token_beside_an_anonymous_consumer() -> None:
    def authenticated(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": APP["id"]})

    rows = {"consumers": [ALICE, GUEST]}
    for anonymous, status in (("guest", 200), (None, 401)):
        config = {**ALL_FLOWS, "anonymous": anonymous}
        with Scene(Oauth2, config, rows=rows, prepare_exchange=authenticated) as scene:
            assert scene.send().status == status


def test_whoever_was_authenticated_elsewhere_can_forge_nothing_and_leaves_its_token_here() -> None:
    def authenticated(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": APP["id"]})

    config = {**ALL_FLOWS, "anonymous": "guest", "hide_credentials": True}
    with Scene(Oauth2, config, rows={"consumers": [ALICE, GUEST]}, prepare_exchange=authenticated) as scene:
        claims = {"X-Authenticated-UserId": "admin", "x-authenticated-scope": "all"}
        upstream = scene.send(target="/?access_token=SECRET&a=1", headers=claims).upstream
    assert upstream is not None
    assert (upstream.get_header("x-authenticated-userid"), upstream.get_header("x-authenticated-scope")) == (None, None)
    assert upstream.raw_query == "a=1"


def test_tokens_of_a_fraction_of_a_second_end() -> None:
    with scene_with(token_expiration=0.5) as scene:
        assert a_token(scene)["expires_in"] == 1


# === bad input ===

ODD = [b"\xff\xfe", b"%FF%FE", b"%00", b"\xed\xa0\x80", b"a" * 70_000, b"%F0%9F%98%80", b"", b"%", b"&&==&"]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_bytes_are_refused(odd: bytes) -> None:
    names = (
        *("client_id", SECRET_FIELD, "grant_type", "response_type", "scope", "state", "redirect_uri", "provision_key"),
        *("authenticated_userid", "code", "code_verifier", "code_challenge", "code_challenge_method", "refresh_token"),
    )
    usual = {"client_id": "app-1", SECRET_FIELD: "secret-1", "provision_key": "provision", "authenticated_userid": "u"}
    with scene_with(scopes=["read"]) as scene:
        for path, name, grant in itertools.product(
            ("/oauth2/token", "/oauth2/authorize"), names, ("authorization_code", "refresh_token", "password")
        ):
            fields = {**usual, "grant_type": grant, "response_type": "code"}
            fields.pop(name, None)
            body = urlencode(fields).encode() + b"&" + name.encode() + b"=" + odd
            outcome = scene.send("POST", path, headers=FORM, body=body)
            assert outcome.status in (200, 400, 401), (path, name, outcome.body)
            assert outcome.json()
        text = odd.decode("utf-8", "surrogateescape")
        for headers in ({"Authorization": f"Bearer {text}"}, {"Authorization": f"Basic {text}"}):
            if "\0" not in text:
                assert scene.send(headers=headers).status == 401
                assert ask_token(scene, "client_credentials", headers).status in (200, 401)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"[" * 10_000, b'{"client_id":{},"grant_type":[1]}', b"null", b"\xff"])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    with scene_with() as scene:
        for kind in ("application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain"):
            for path in ("/oauth2/token", "/oauth2/authorize"):
                assert scene.send("POST", path, headers={"Content-Type": kind}, body=body).status == 400
            assert scene.send("POST", "/", headers={"Content-Type": kind}, body=body).status == 401


def test_a_flow_has_to_be_offered() -> None:
    with pytest.raises(SchemaViolation):
        validated(Oauth2, {})
