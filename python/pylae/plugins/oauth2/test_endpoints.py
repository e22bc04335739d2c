# SPDX-License-Identifier: Apache-2.0
"""Do the endpoints of oauth2 answer as its facts say?"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

import pytest

from pylae.plugins.oauth2 import hashes
from pylae.plugins.oauth2.test_plugin import (
    ALICE,
    APP,
    FORM,
    HASHED,
    HOME,
    OTHER_HOME,
    SECRET_FIELD,
    a_code,
    a_token,
    ask_token,
    assert_refused,
    authorize,
    call,
    scene_with,
    sent_back,
)
from pylae.sdk import Answer, Exchange
from pylae.sdk.auth import facts_of
from pylae.sdk.testing import SERVICE_ID, MemoryExchange

# === the authorization endpoint ===


def test_code_is_given_for_five_minutes() -> None:
    with scene_with(scopes=["read", "write"]) as scene:
        outcome = authorize(scene, state="hello", scope="read")
        assert outcome.status == 200
        assert (outcome.headers["cache-control"], outcome.headers["pragma"]) == ("no-store", "no-cache")
        address = outcome.json()["redirect_uri"]
        said = sent_back(outcome)
        assert address == f"{HOME}?code={said['code']}&state=hello"
        assert len(said["code"]) == 32
        row = scene.host.rows["oauth2_authorization_codes"][0]
        assert (row["authenticated_userid"], row["scope"], row["service"]) == ("user-7", "read", {"id": SERVICE_ID})
        scene.clock.turn(seconds=301)
        assert_refused(ask_token(scene, "authorization_code", code=said["code"]), "invalid_request", "Invalid code")


def test_implicit_token_is_in_the_fragment_and_has_no_refresh_token() -> None:
    with scene_with() as scene:
        outcome = authorize(scene, response_type="token", state="hello world")
        token = sent_back(outcome)["access_token"]
        expected = f"{HOME}#access_token={token}&expires_in=7200&state=hello%20world&token_type=bearer"
        assert outcome.json() == {"redirect_uri": expected}
        assert call(scene, token).status == 200


def test_another_registered_address_is_kept_with_its_query() -> None:
    with scene_with() as scene:
        code = sent_back(authorize(scene, redirect_uri=OTHER_HOME))["code"]
        address = authorize(scene, redirect_uri=OTHER_HOME).json()["redirect_uri"]
        assert address.startswith(f"{OTHER_HOME}&code=")
        assert ask_token(scene, "authorization_code", code=code, redirect_uri=OTHER_HOME).status == 200


@pytest.mark.parametrize(
    ("fields", "error", "description"),
    [
        ({"provision_key": None}, "invalid_provision_key", "Invalid provision_key"),
        ({"provision_key": "wrong"}, "invalid_provision_key", "Invalid provision_key"),
        ({"authenticated_userid": None}, "invalid_authenticated_userid", "Missing authenticated_userid parameter"),
        ({"authenticated_userid": "  "}, "invalid_authenticated_userid", "Missing authenticated_userid parameter"),
        ({"authenticated_userid": "a\r\nX-Admin: 1"}, "invalid_authenticated_userid", "Missing authenticated_userid parameter"),
        ({"client_id": None}, "invalid_client", "Invalid client authentication"),
        ({"client_id": "unknown"}, "invalid_client", "Invalid client authentication"),
    ],
)
def test_authorization_is_refused_without_sending_back(fields: dict[str, Any], error: str, description: str) -> None:
    with scene_with() as scene:
        outcome = authorize(scene, **{"state": "x", **fields})
        assert_refused(outcome, error, description)
        assert outcome.json()["state"] == "x"
        assert outcome.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("fields", "error", "description"),
    [
        ({"response_type": None}, "unsupported_response_type", "Invalid response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type", "Invalid response_type"),
        ({"scope": "admin"}, "invalid_scope", '"admin" is an invalid scope'),
        ({"scope": None}, "invalid_scope", "You must specify a scope"),
        ({"scope": ["read", "write"]}, "invalid_scope", "scope must be a string"),
        (
            {"redirect_uri": "https://evil.test/"},
            "invalid_request",
            "Invalid redirect_uri that does not match with any redirect_uri created with the application",
        ),
    ],
)
def test_authorization_is_refused_at_the_registered_address(fields: dict[str, Any], error: str, description: str) -> None:
    with scene_with(scopes=["read"], mandatory_scope=True) as scene:
        outcome = authorize(scene, **{"state": "x", "scope": "read", **fields})
        assert outcome.status == 400
        assert outcome.json()["redirect_uri"].startswith(f"{HOME}?error=")
        assert sent_back(outcome) == {"error": error, "error_description": description, "state": "x"}


@pytest.mark.parametrize("flow", ["code", "token"])
def test_flow_that_is_not_offered_is_refused(flow: str) -> None:
    with scene_with(enable_authorization_code=False, enable_implicit_grant=False) as scene:
        assert sent_back(authorize(scene, response_type=flow))["error"] == "unsupported_response_type"
        for grant in ("authorization_code", "implicit", ""):
            assert_refused(ask_token(scene, grant, code="x"), "unsupported_grant_type", "Invalid grant_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "DELETE"])
def test_endpoints_are_posted_to(method: str) -> None:
    with scene_with() as scene:
        for path, name in (("/oauth2/token", "token"), ("/a/oauth2/authorize/", "authorization")):
            outcome = scene.send(method, path)
            description = f"The HTTP method {method} is invalid for the {name} endpoint"
            assert_refused(outcome, "invalid_method", description, 405)
            assert outcome.headers["allow"] == "POST"


def test_https_is_asked_for_unless_a_trusted_proxy_ended_it() -> None:
    with scene_with(prepare_exchange=None) as scene:
        for outcome in (authorize(scene), ask_token(scene, "client_credentials")):
            assert_refused(outcome, "access_denied", "You must use HTTPS")
    with scene_with(prepare_exchange=None, accept_http_if_already_terminated=True) as scene:
        # Nobody trusted says that it was anything else.
        assert_refused(authorize(scene), "access_denied", "You must use HTTPS")

    def behind_a_proxy(exchange: MemoryExchange) -> None:
        exchange.client.forwarded_protocol = "https"

    for accepts, status in ((True, 200), (False, 400)):
        with scene_with(prepare_exchange=behind_a_proxy, accept_http_if_already_terminated=accepts) as scene:
            assert authorize(scene).status == status


def test_code_needs_a_registered_address() -> None:
    with scene_with() as scene:
        scene.host.change("oauth2_credentials", APP["id"], redirect_uris=None)
        assert authorize(scene).json()["error"] == "invalid_request"


# === the token endpoint ===


def test_token_of_each_grant_passes_and_tells_the_upstream_who_it_is() -> None:
    with scene_with(scopes=["read", "write"]) as scene:
        code = a_code(scene, scope="write  read")
        user = {"provision_key": "provision", "authenticated_userid": "user-7", "scope": "write read"}
        outcomes = {
            "authorization_code": ask_token(scene, "authorization_code", code=code, state="s"),
            "password": ask_token(scene, "password", state="s", **user),
            "client_credentials": ask_token(scene, "client_credentials", state="s", scope="write read"),
        }
        for grant, outcome in outcomes.items():
            assert outcome.status == 200, outcome.body
            assert (outcome.headers["cache-control"], outcome.headers["pragma"]) == ("no-store", "no-cache")
            body = outcome.json()
            assert (body["token_type"], body["expires_in"], body["state"]) == ("bearer", 7200, "s")
            assert ("refresh_token" in body) is (grant != "client_credentials")
            passed = call(scene, body["access_token"])
            assert passed.upstream is not None
            headers = passed.upstream.get_headers()
            assert headers["x-consumer-id"] == ALICE["id"]
            assert headers["x-consumer-custom-id"] == "42"
            assert headers["x-consumer-username"] == "alice"
            assert headers["x-credential-identifier"] == "app-1"
            assert headers["x-authenticated-scope"] == "write read"
            assert headers.get("x-authenticated-userid") == (None if grant == "client_credentials" else "user-7")
            assert facts_of(passed.exchange).scopes == ("write", "read")
            assert facts_of(passed.exchange).methods == ["oauth2"]
            credential = passed.exchange.client.credential
            assert credential is not None
            assert credential["id"] == APP["id"]
            assert SECRET_FIELD not in credential


def test_client_authenticates_in_the_header_or_the_body() -> None:
    with scene_with() as scene:
        basic = {"Authorization": "Basic " + base64.b64encode(b"app-1:secret-1").decode()}
        wrong = {"Authorization": "Basic " + base64.b64encode(b"app-1:secret-2").decode()}
        nothing = {"client_id": None, SECRET_FIELD: None}
        assert ask_token(scene, "client_credentials", basic, **nothing).status == 200
        assert ask_token(scene, "client_credentials", {"Authorization": "Bearer x"}).status == 200
        refused = ("invalid_client", "Invalid client authentication")
        challenge = 'Basic realm="OAuth2.0"'
        assert_refused(ask_token(scene, "client_credentials", wrong, **nothing), *refused, 401, challenge)
        assert_refused(ask_token(scene, "client_credentials", {"Authorization": "Basic %"}, **nothing), *refused, 401, challenge)
        assert_refused(ask_token(scene, "client_credentials", wrong), *refused, 401, challenge)
        for fields in (
            nothing,
            {SECRET_FIELD: None},
            {SECRET_FIELD: "wrong"},
            {"client_id": "unknown"},
            {"client_id": ["a", "b"]},
        ):
            assert_refused(ask_token(scene, "client_credentials", **fields), *refused)


def test_parameters_may_be_json_multipart_or_in_the_query() -> None:
    with scene_with() as scene:
        fields = {"client_id": "app-1", SECRET_FIELD: "secret-1", "grant_type": "client_credentials"}
        path = "/oauth2/token"
        json_type = {"Content-Type": "application/json"}
        body = b'{"client_id":"app-1","client_secret":"secret-1","grant_type":"client_credentials"}'
        assert scene.send("POST", path, headers=json_type, body=body).status == 200
        assert scene.send("POST", f"{path}?{urlencode(fields)}").status == 200
        parts = (f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
        multipart = {"Content-Type": "multipart/form-data; boundary=x"}
        assert scene.send("POST", path, headers=multipart, body="".join([*parts, "--x--\r\n"]).encode()).status == 200


def test_hashed_secret_is_verified_and_is_no_secret_itself() -> None:
    with scene_with() as scene:
        mine = {"client_id": "app-3", SECRET_FIELD: "secret-3"}
        for _ in range(2):
            assert ask_token(scene, "client_credentials", **mine).status == 200
        for wrong in ("secret-1", HASHED[SECRET_FIELD]):
            outcome = ask_token(scene, "client_credentials", **{**mine, SECRET_FIELD: wrong})
            assert_refused(outcome, "invalid_client", "Invalid client authentication")
        scene.host.change("oauth2_credentials", HASHED["id"], hash_secret=False)
        outcome = ask_token(scene, "client_credentials", **{**mine, SECRET_FIELD: HASHED[SECRET_FIELD]})
        assert_refused(outcome, "invalid_client", "Invalid client authentication")
        scene.host.change("oauth2_credentials", HASHED["id"], **{SECRET_FIELD: hashes.hashed("changed")})
        assert_refused(ask_token(scene, "client_credentials", **mine), "invalid_client", "Invalid client authentication")


@pytest.mark.parametrize(
    "stored",
    [
        "$argon2id$v=19$m=1,t=1,p=1$a$b",
        "$pbkdf2-sha512$i=999999999,l=32$c2FsdA$aGFzaA",
        "$pbkdf2-sha512$i=0,l=0$c2FsdA$aGFzaA",
        "x",
    ],
)
def test_hash_that_cannot_be_verified_lets_nobody_in(stored: str) -> None:
    assert not hashes.matches("x", stored)


def test_password_grant_needs_the_login_application() -> None:
    with scene_with() as scene:
        user = {"authenticated_userid": "user-7"}
        assert_refused(ask_token(scene, "password", **user), "invalid_provision_key", "Invalid provision_key")
        outcome = ask_token(scene, "password", provision_key="provision")
        assert_refused(outcome, "invalid_authenticated_userid", "Missing authenticated_userid parameter")
        assert_refused(ask_token(scene, "client_credentials", **user), "invalid_provision_key", "Invalid provision_key")


def test_code_is_exchanged_once_and_for_its_application_alone() -> None:
    with scene_with() as scene:
        wrong = ("invalid_request", "Invalid code")
        code = a_code(scene)
        thief = {"client_id": "app-2", SECRET_FIELD: "secret-2"}
        assert_refused(ask_token(scene, "authorization_code", code=code, **thief), *wrong)
        assert_refused(ask_token(scene, "authorization_code", code=code, redirect_uri=OTHER_HOME), *wrong)
        assert ask_token(scene, "authorization_code", code=code).status == 200
        for used in (code, "unknown", None, ["a", "b"], "x" * 5000):
            assert_refused(ask_token(scene, "authorization_code", code=used), *wrong)


def test_code_of_another_service_or_plugin_is_refused() -> None:
    with scene_with() as scene:
        first, second = a_code(scene), a_code(scene)
        rows = scene.host.rows["oauth2_authorization_codes"]
        rows[0]["service"] = {"id": ALICE["id"]}
        rows[1]["plugin"] = {"id": ALICE["id"]}
        for code in (first, second):
            assert_refused(ask_token(scene, "authorization_code", code=code), "invalid_request", "Invalid code")


@pytest.mark.parametrize("together", range(2, 5))
def test_of_all_who_come_with_a_code_at_once_one_gets_a_token(together: int) -> None:
    with scene_with() as scene:
        body = urlencode(
            {"client_id": "app-1", SECRET_FIELD: "secret-1", "grant_type": "authorization_code", "code": a_code(scene)}
        ).encode()
        request = {"method": "POST", "target": "/oauth2/token", "headers": FORM, "body": body}
        statuses = sorted(outcome.status for outcome in scene.send_together([request] * together))
        assert statuses == [200, *[400] * (together - 1)]


# === refreshing ===


def test_refresh_token_is_used_up_with_its_access_token() -> None:
    with scene_with(scopes=["read", "write"]) as scene:
        old = ask_token(scene, "authorization_code", code=a_code(scene, scope="read")).json()
        assert call(scene, old["access_token"]).status == 200
        renewed = ask_token(scene, "refresh_token", refresh_token=old["refresh_token"], scope="read", state="s")
        assert renewed.status == 200
        new = renewed.json()
        assert new["state"] == "s"
        assert new["refresh_token"] != old["refresh_token"]
        assert call(scene, old["access_token"]).status == 401
        passed = call(scene, new["access_token"])
        assert passed.upstream is not None
        assert passed.upstream.get_header("x-authenticated-userid") == "user-7"
        assert passed.upstream.get_header("x-authenticated-scope") == "read"
        again = ask_token(scene, "refresh_token", refresh_token=old["refresh_token"])
        assert_refused(again, "invalid_request", "Invalid refresh_token")
        beyond = ask_token(scene, "refresh_token", refresh_token=new["refresh_token"], scope="read write")
        assert_refused(beyond, "invalid_scope", "Scope mismatch")
        thief = {"client_id": "app-2", SECRET_FIELD: "secret-2"}
        stolen = ask_token(scene, "refresh_token", refresh_token=new["refresh_token"], **thief)
        assert_refused(stolen, "invalid_request", "Invalid refresh_token")


def test_refresh_token_is_kept_where_told_so() -> None:
    with scene_with(reuse_refresh_token=True) as scene:
        old = a_token(scene)
        scene.clock.turn(seconds=7000)
        new = ask_token(scene, "refresh_token", refresh_token=old["refresh_token"]).json()
        assert new["refresh_token"] == old["refresh_token"]
        assert new["access_token"] != old["access_token"]
        assert call(scene, old["access_token"]).status == 401
        scene.clock.turn(seconds=7000)
        assert call(scene, new["access_token"]).status == 200


def test_refresh_token_outlives_the_access_token_until_its_own_end() -> None:
    with scene_with(token_expiration=10, refresh_token_ttl=100) as scene:
        token = a_token(scene)
        assert token["expires_in"] == 10
        scene.clock.turn(seconds=10)
        invalid = ("invalid_token", "The access token is invalid or has expired")
        challenge = f'Bearer error="invalid_token", error_description="{invalid[1]}"'
        assert_refused(call(scene, token["access_token"]), *invalid, 401, challenge)
        scene.clock.turn(seconds=80)
        token = ask_token(scene, "refresh_token", refresh_token=token["refresh_token"]).json()
        scene.clock.turn(seconds=101)
        outcome = ask_token(scene, "refresh_token", refresh_token=token["refresh_token"])
        assert_refused(outcome, "invalid_request", "Invalid refresh_token")


def test_token_for_ever_has_neither_end_nor_refresh_token() -> None:
    with scene_with(token_expiration=0) as scene:
        token = a_token(scene)
        assert set(token) == {"access_token", "token_type"}
        scene.clock.turn(seconds=1e9)
        assert call(scene, token["access_token"]).status == 200


# === guessing ===


class Locks:
    """What `auth-damping` would leave in the exchange: it locks a name after two failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str | None]] = []

    def is_locked(self, plugin: str, name: str) -> bool:
        return self.failures.count((plugin, name)) >= 2

    def failed(self, plugin: str, name: str | None) -> None:
        self.failures.append((plugin, name))

    def refusal(self, exchange: Exchange) -> Answer:
        return exchange.answer(429, {"message": "Too many attempts"})


def test_guesses_are_counted_and_locked_out() -> None:
    locks = Locks()

    def damped(exchange: MemoryExchange) -> None:
        exchange.client.protocol = "https"
        exchange.ctx["auth.damping"] = locks

    with scene_with(prepare_exchange=damped) as scene:
        assert authorize(scene, provision_key="guess").status == 400
        assert call(scene, "guess").status == 401
        assert scene.send().status == 401
        assert ask_token(scene, "client_credentials", scope="nothing wrong").status == 200
        assert locks.failures == [("oauth2", None)] * 2
        for _ in range(2):
            assert ask_token(scene, "client_credentials", **{SECRET_FIELD: "guess"}).status == 400
        # Not even the right secret, and nobody else's.
        assert ask_token(scene, "client_credentials").status == 429
        assert ask_token(scene, "client_credentials", client_id="app-2", **{SECRET_FIELD: "secret-2"}).status == 200
