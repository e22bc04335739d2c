# SPDX-License-Identifier: Apache-2.0
"""Does openid-connect decide by what its issuer says, and for as long as that holds?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pylae.plugins.acl.plugin import Acl
from pylae.plugins.auth_damping.plugin import AuthDamping
from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.plugins.openid_connect.conftest import ALICE, GUEST, JWK, NOW_S, Issuer, bearer, upstream_header
from pylae.plugins.openid_connect.plugin import OpenidConnect
from pylae.plugins.openid_connect.possession import thumbprint
from pylae.sdk import SchemaViolation
from pylae.sdk.auth import facts_of
from pylae.sdk.auth.facts import groups_of
from pylae.sdk.testing import Chain, validated


def test_token_is_remembered_until_it_ends(issuer: Issuer) -> None:
    with issuer.scene(leeway=10) as scene:
        token = issuer.token()
        assert {bearer(scene, token).status for _ in range(4)} == {200}
        scene.clock.turn(seconds=609)
        assert bearer(scene, token).status == 200
        scene.clock.turn(seconds=2)
        outcome = bearer(scene, token)
        assert (outcome.status, outcome.json()["message"]) == (401, "Unauthorized")
        realm = issuer.url.removeprefix("http://")
        assert outcome.headers["www-authenticate"] == f'Bearer realm="{realm}", error="invalid_token"'
    assert issuer.count("/jwks") == 1


def test_login_of_a_remembered_token_grows_old(issuer: Issuer) -> None:
    with issuer.scene(max_age=60) as scene:
        token = issuer.token(auth_time=NOW_S)
        assert [bearer(scene, token).status for _ in range(2)] == [200, 200]
        scene.clock.turn(seconds=61)
        assert bearer(scene, token).status == 401


def test_consumer_is_found_anew_when_it_changes(issuer: Issuer) -> None:
    with issuer.scene(consumer_claim=["sub"]) as scene:
        token = issuer.token()
        for _ in range(3):
            assert upstream_header(bearer(scene, token), "X-Consumer-ID") == ALICE["id"]
        scene.host.remove("consumers", ALICE["id"])
        outcome = bearer(scene, token)
        assert (outcome.status, outcome.json()["message"]) == (403, "Forbidden")


@pytest.mark.parametrize(
    ("config", "claims", "found"),
    [
        ({"consumer_claim": ["sub"]}, {"sub": "42"}, True),
        ({"consumer_claim": ["sub"]}, {"sub": 42}, True),
        ({"consumer_claim": ["sub"], "consumer_by": ["username"]}, {"sub": "42"}, False),
        ({"consumer_claim": ["sub"], "consumer_by": ["id"]}, {"sub": ALICE["id"]}, True),
        ({"consumer_claim": ["a", "b"]}, {"a": {"b": "alice"}}, True),
        ({"consumer_claim": ["a", "b"]}, {"a": "alice"}, False),
        ({"consumer_claims": [["none"], ["sub"]]}, {}, True),
        ({"consumer_claim": ["sub"]}, {"sub": "alice\0"}, False),
        ({"consumer_claim": ["sub"]}, {"sub": ["alice"]}, False),
        ({"consumer_claim": ["sub"]}, {"sub": "Alice"}, False),
    ],
)
def test_consumer_by_claims(issuer: Issuer, config: dict[str, Any], claims: dict[str, Any], *, found: bool) -> None:
    token = issuer.token(**claims)
    with issuer.scene(**config) as scene:
        assert bearer(scene, token).status == (200 if found else 403)
    with issuer.scene(**config, consumer_optional=True) as scene:
        assert upstream_header(bearer(scene, token), "X-Consumer-ID") == (ALICE["id"] if found else None)


def test_consumer_that_is_added_later_is_found_though_the_token_is_remembered(issuer: Issuer) -> None:
    token = issuer.token(sub="mallory")
    with issuer.scene(consumer_claim=["sub"], consumer_optional=True) as scene:
        assert upstream_header(bearer(scene, token), "X-Consumer-ID") is None
        assert upstream_header(bearer(scene, token), "X-Consumer-ID") is None
        mallory = {"id": "a9999999-9999-4999-8999-999999999999", "username": "mallory", "custom_id": None, "created_at": 1}
        scene.host.rows["consumers"].append(mallory)
        scene.host.entities.invalidate([("consumers", "username", "mallory"), ("consumers", "id", mallory["id"])])
        assert upstream_header(bearer(scene, token), "X-Consumer-ID") == mallory["id"]


def test_session_cannot_be_claimed_beside_a_remembered_token(issuer: Issuer) -> None:
    token = issuer.token()
    with issuer.scene(
        auth_methods=["bearer", "session"], client_id=["c"], client_secret=["s"], session_request_headers=["id", "subject"]
    ) as scene:
        for _ in range(2):
            outcome = scene.send(headers={"authorization": f"Bearer {token}", "Session-Subject": "admin", "session-id": "1"})
            assert outcome.status == 200
            assert upstream_header(outcome, "Session-Subject") is None
            assert upstream_header(outcome, "Session-Id") is None


def test_later_plugins_learn_who_it_is(issuer: Issuer) -> None:
    with issuer.scene(authenticated_groups_claim=["groups"], credential_claim=["email"]) as scene:
        token = issuer.token(groups=["dev", "ops"], scope="read write", email="alice@example.com")
        for _ in range(2):
            outcome = bearer(scene, token)
            facts = facts_of(outcome.exchange)
            assert (facts.methods, facts.subject, facts.issuer) == (["openid-connect"], "alice", issuer.url)
            assert (facts.scopes, facts.expires_at_s) == (["read", "write"], NOW_S + 600)
            assert groups_of(outcome.exchange) == ["dev", "ops"]
            assert outcome.exchange.client.credential == {"id": "alice@example.com"}
            assert upstream_header(outcome, "X-Credential-Identifier") == "alice@example.com"


def test_headers_tell_of_the_token_and_are_not_the_clients_to_send(issuer: Issuer) -> None:
    with issuer.scene(
        auth_methods=["bearer"],
        upstream_headers=[{"header": "X-Mail", "path": ["contact", "email"]}],
        upstream_access_token_header="X-Token:bearer",
        upstream_access_token_jwk_header="X-Key",
        upstream_user_info_header="X-Userinfo",
        downstream_headers_claims=["sub"],
        downstream_headers_names=["X-Sub"],
        anonymous=GUEST["id"],
    ) as scene:
        token = issuer.token(contact={"email": "a@b.c"})
        outcome = bearer(scene, token, **{"X-Mail": "forged", "X-Userinfo": "forged"})
        assert upstream_header(outcome, "X-Mail") == "a@b.c"
        assert upstream_header(outcome, "X-Token") == f"Bearer {token}"
        assert upstream_header(outcome, "X-Userinfo") is None
        key = json.loads(base64.b64decode(upstream_header(outcome, "X-Key") or ""))
        assert (key["kid"], key["x"]) == ("one", JWK["x"])
        assert "d" not in key
        assert outcome.headers["x-sub"] == "alice"
        guest = scene.send(headers={"X-Mail": "forged", "X-Userinfo": "forged", "X-Authenticated-Groups": "admin"})
        for name in ("X-Mail", "X-Userinfo", "X-Authenticated-Groups"):
            assert upstream_header(guest, name) is None
        assert upstream_header(guest, "X-Anonymous-Consumer") == "true"


@pytest.mark.parametrize(
    ("required", "claims", "status"),
    [
        ({"scopes_required": ["read"]}, {"scope": "read write"}, 200),
        ({"scopes_required": ["read admin"]}, {"scope": "read write"}, 403),
        ({"scopes_required": ["admin", "write"]}, {"scope": "read write"}, 200),
        ({"scopes_required": ["read"], "scopes_claim": ["scp"]}, {"scp": ["read"]}, 200),
        ({"roles_required": ["admin"], "roles_claim": ["realm", "roles"]}, {"realm": {"roles": ["admin"]}}, 200),
        ({"roles_required": ["admin"]}, {}, 403),
        ({"groups_required": ["the ops"]}, {"groups": ["the ops"]}, 403),
        ({"groups_required": ["dev"], "audience_required": ["api"]}, {"groups": ["dev"], "aud": "web"}, 403),
        ({"claims_forbidden": ["act"]}, {"act": {}}, 401),
        ({"domains": ["example.com"]}, {"hd": "example.com"}, 200),
        ({"domains": ["example.com"]}, {"hd": ["example.com"]}, 401),
        ({"max_age": 60}, {"auth_time": NOW_S - 61}, 401),
        ({"max_age": 60}, {"auth_time": "now"}, 401),
    ],
)
def test_what_a_client_needs(issuer: Issuer, required: dict[str, Any], claims: dict[str, Any], status: int) -> None:
    with issuer.scene(**required) as scene:
        assert bearer(scene, issuer.token(**claims)).status == status


def test_refusals_say_what_the_configuration_asks_for(issuer: Issuer) -> None:
    said: dict[str, Any] = {"unauthorized_error_message": "who?", "forbidden_error_message": "no", "scopes_required": ["admin"]}
    with issuer.scene(**said) as scene:
        outcome = bearer(scene, issuer.token())
        assert (outcome.status, outcome.json()["message"]) == (403, "no")
        assert str(outcome.headers["www-authenticate"]).endswith('error="insufficient_scope"')
        assert scene.send().json()["message"] == "who?"
    with issuer.scene(**said, display_errors=True, expose_error_code=False) as scene:
        outcome = bearer(scene, issuer.token())
        assert outcome.json()["message"] == "no (required scopes are missing)"
        assert "error" not in outcome.headers["www-authenticate"]
    with issuer.scene(**said, unauthorized_redirect_uri=["https://a.test/"], forbidden_redirect_uri=["https://b.test/"]) as scene:
        assert (scene.send().status, scene.send().headers["location"]) == (302, "https://a.test/")
        assert bearer(scene, issuer.token()).headers["location"] == "https://b.test/"


def test_hidden_credentials_are_hidden_everywhere(issuer: Issuer) -> None:
    token = issuer.token()
    with issuer.scene(hide_credentials=True) as scene:
        # What is shown is hidden; what the upstream is told is another matter.
        for _ in range(2):
            assert upstream_header(bearer(scene, token), "Authorization") == f"Bearer {token}"
    with issuer.scene(hide_credentials=True, upstream_access_token_header=None) as scene:
        for _ in range(2):
            assert upstream_header(bearer(scene, token), "Authorization") is None
        with issuer.scene(hide_credentials=True, upstream_access_token_header="X-Access-Token") as other:
            assert upstream_header(bearer(other, token), "X-Access-Token") == token
            assert upstream_header(bearer(other, token), "X-Access-Token") == token
        outcome = scene.send(target=f"/?a=1&access_token={token}&b=2")
        assert outcome.upstream is not None
        assert outcome.upstream.raw_query == "a=1&b=2"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        outcome = scene.send("POST", headers=form, body=f"access_token={token}&c=3".encode())
        assert outcome.upstream is not None
        assert outcome.upstream.body == b"c=3"


def test_jwt_session_cookie(issuer: Issuer) -> None:
    with issuer.scene(jwt_session_cookie="sid", jwt_session_claim="sid") as scene:
        token = issuer.token(sid="one")
        assert bearer(scene, token, Cookie="a=b; sid=one").status == 200
        for cookie in ("sid=two", "a=b", "sid="):
            assert bearer(scene, token, Cookie=cookie).status == 401


def test_token_bound_to_a_certificate(issuer: Issuer) -> None:
    certificate = b"a certificate, DER"
    bound = "3k8nK0C4jzIFz6fMXYEVgRiA8GN2FFCd5M8yQZ6ZQL0"
    with issuer.scene(proof_of_possession_mtls="strict") as scene:
        assert bearer(scene, issuer.token()).status == 401
        assert bearer(scene, issuer.token(cnf={"x5t#S256": bound})).status == 401
    with issuer.scene(proof_of_possession_mtls="optional") as scene:
        assert bearer(scene, issuer.token()).status == 200
        assert bearer(scene, issuer.token(cnf={"x5t#S256": bound})).status == 401
        scene._prepare_exchange = lambda exchange: setattr(exchange.client, "certificate_chain", [certificate])
        assert bearer(scene, issuer.token(cnf={"x5t#S256": thumbprint(certificate)})).status == 200
        assert bearer(scene, issuer.token(cnf={"x5t#S256": ["x"]})).status == 401


def test_name_that_failed_too_often_is_locked(issuer: Issuer) -> None:
    issuer.said["/token"] = 400, {"error": "invalid_grant"}
    config = {"issuer": issuer.url, "client_id": ["gateway"], "client_secret": ["own"], "auth_methods": ["password"]}
    with Chain([(AuthDamping, {"failures_per_name": 2}), (OpenidConnect, config)]) as chain:

        def show(name: str, ip: str) -> int:
            pair = base64.b64encode(f"{name}:guessed".encode()).decode()
            return chain.send(headers={"Authorization": f"Basic {pair}"}, ip=ip).status

        assert [show("alice", f"192.0.2.{number}") for number in range(3)] == [401, 401, 429]
        assert issuer.count("/token") == 2
        assert show("bob", "192.0.2.9") == 401


def test_acl_goes_by_the_groups_of_the_token(issuer: Issuer) -> None:
    config = {"issuer": issuer.url, "auth_methods": ["bearer"], "authenticated_groups_claim": ["groups"]}
    with Chain([(OpenidConnect, config), (Acl, {"allow": ["ops"]})]) as chain:

        def show(groups: list[str]) -> int:
            return chain.send(headers={"Authorization": f"Bearer {issuer.token(groups=groups)}"}).status

        assert [show(["dev", "ops"]), show(["dev"]), show(["ops"])] == [200, 403, 200]


def test_either_a_key_or_a_token(issuer: Issuer) -> None:
    config = {"issuer": issuer.url, "auth_methods": ["bearer"], "consumer_claim": ["sub"], "anonymous": GUEST["id"]}
    key = {"id": "c1111111-1111-4111-8111-111111111111", "key": "k", "consumer": {"id": ALICE["id"]}}
    rows = {"consumers": [ALICE, GUEST], "keyauth_credentials": [key]}
    with Chain([(OpenidConnect, config), (KeyAuth, {"anonymous": GUEST["id"]})], rows=rows) as chain:
        shown: list[dict[str, str]] = [
            {"apikey": "k"},
            {"Authorization": f"Bearer {issuer.token()}"},
            {"apikey": "k", "Authorization": "Bearer bad"},
            {"Authorization": "Bearer bad"},
        ]
        names = [upstream_header(chain.send(headers=headers), "X-Consumer-Username") for headers in shown]
        assert names == ["alice", "alice", "alice", "guest"]


def test_preflight_passes_if_asked_for_with_nothing_forged(issuer: Issuer) -> None:
    with issuer.scene(run_on_preflight=False, upstream_user_info_header="X-Userinfo") as scene:
        outcome = scene.send("OPTIONS", headers={"X-Userinfo": "forged"})
        assert (outcome.status, upstream_header(outcome, "X-Userinfo")) == (200, None)


def test_discovery_is_refreshed_behind_the_back_of_a_request(issuer: Issuer) -> None:
    with issuer.scene(cache_ttl=60) as scene:
        assert bearer(scene, issuer.token()).status == 200
        scene.clock.turn(seconds=61)
        assert bearer(scene, issuer.token(sub="bob")).status == 200
        assert bearer(scene, issuer.token(sub="eve")).status == 200
        assert issuer.count("/.well-known/openid-configuration") <= 2


def test_pseudo_issuer_is_not_discovered(issuer: Issuer) -> None:
    with issuer.scene(
        issuer="https://nowhere.test", using_pseudo_issuer=True, jwks_endpoint=f"{issuer.url}/jwks", issuers_allowed=[issuer.url]
    ) as scene:
        assert bearer(scene, issuer.token()).status == 200
    assert issuer.count("/.well-known/openid-configuration") == 0


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"http_proxy": "http://proxy.test"}, "http_proxy"),
        ({"proof_of_possession_dpop": "strict"}, "proof_of_possession_dpop"),
        ({"session_storage": "memcached"}, "session_storage"),
        ({"response_type": ["token"]}, "response_type"),
        ({"client_auth": ["tls_client_auth"]}, "client_auth"),
        ({"token_post_args_names": ["a"]}, "token_post_args_values"),
        ({"upstream_headers_claims": ["a"], "upstream_headers_names": ["a b"]}, "upstream_headers_names"),
        ({"upstream_id_token_header": "X Y:bearer"}, "upstream_id_token_header"),
        ({"proof_of_possession_mtls": "strict", "auth_methods": ["bearer", "password"]}, "auth_methods"),
        ({"auth_methods": ["session"], "client_id": ["a"]}, "session_secret"),
        ({"issuer": "no address"}, "issuer"),
        ({"auth_methods": ["magic"]}, "auth_methods"),
    ],
)
def test_what_is_not_supported_is_refused_when_configured(config: dict[str, Any], place: str) -> None:
    with pytest.raises(SchemaViolation) as refused:
        validated(OpenidConnect, {"issuer": "https://idp.test", **config})
    assert place in (refused.value.fields or {})["config"]
