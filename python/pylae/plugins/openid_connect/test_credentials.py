# SPDX-License-Identifier: Apache-2.0
"""Does openid-connect ask its issuer about what it cannot read itself, and no more often than it must?"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pylae.plugins.openid_connect.conftest import ALICE, NOW_S, Issuer, basic, bearer, upstream_header
from pylae.plugins.openid_connect.plugin import OpenidConnect
from pylae.sdk.entities import CallFailed
from pylae.sdk.testing import SERVICE_ID, Scene


def test_introspection_is_remembered_and_coalesced(issuer: Issuer) -> None:
    issuer.said["/introspection"] = 200, {"active": True, "sub": "alice", "exp": NOW_S + 60}
    with issuer.scene(
        auth_methods=["introspection"], introspection_headers_names=["X-A"], introspection_headers_values=["b"]
    ) as scene:
        request = {"headers": {"Authorization": "Bearer opaque"}}
        assert {outcome.status for outcome in scene.send_together([request] * 8)} == {200}
        assert issuer.count("/introspection") == 1
        _, form, headers = issuer.asked[-1]
        assert form == {"token": "opaque", "token_type_hint": "access_token"}
        assert (headers["X-A"], headers["Authorization"]) == ("b", "Basic " + base64.b64encode(b"gateway:gateways-own").decode())
        issuer.said["/introspection"] = 200, {"active": False}
        assert bearer(scene, "opaque").status == 200
        scene.clock.turn(seconds=61)
        assert bearer(scene, "opaque").status == 401


@pytest.mark.parametrize(
    ("config", "said", "status"),
    [
        ({"claims_forbidden": ["act"]}, {"act": {}}, 401),
        ({"domains": ["example.com"]}, {"hd": "example.com"}, 200),
        ({"domains": ["example.com"]}, {}, 401),
        ({"max_age": 60}, {"auth_time": NOW_S - 50}, 200),
    ],
)
def test_introspection_is_judged_each_time(issuer: Issuer, config: dict[str, Any], said: dict[str, Any], status: int) -> None:
    issuer.said["/introspection"] = 200, {"active": True, **said}
    with issuer.scene(auth_methods=["introspection"], **config) as scene:
        assert [bearer(scene, "opaque").status for _ in range(2)] == [status, status]
        scene.clock.turn(seconds=30)
        assert bearer(scene, "opaque").status == (401 if "max_age" in config else status)


def test_refusal_by_introspection_is_remembered_if_asked_for(issuer: Issuer) -> None:
    issuer.said["/introspection"] = 200, {"active": False}
    with issuer.scene(auth_methods=["introspection"], cache_ttl_neg=30) as scene:
        assert {bearer(scene, "opaque").status for _ in range(3)} == {401}
        assert issuer.count("/introspection") == 1
        scene.clock.turn(seconds=31)
        issuer.said["/introspection"] = 200, {"active": True}
        assert bearer(scene, "opaque").status == 200


def test_signed_token_is_both_verified_and_introspected_if_asked_for(issuer: Issuer) -> None:
    issuer.said["/introspection"] = 200, {"active": False}
    with issuer.scene(auth_methods=["bearer", "introspection"], introspect_jwt_tokens=True, cache_introspection=False) as scene:
        token = issuer.token()
        assert bearer(scene, token[:-8] + "AAAAAAAA").status == 401
        assert issuer.count("/introspection") == 0
        assert bearer(scene, token).status == 401
        issuer.said["/introspection"] = 200, {"active": True}
        assert [bearer(scene, token).status for _ in range(2)] == [200, 200]
        assert issuer.count("/introspection") == 3


def test_nobody_is_asked_about_garbage_who_cannot_be_asked(issuer: Issuer) -> None:
    """A configuration with nothing but an issuer offers all that Kong does, and is no fault of the gateway's."""
    status, document = issuer.said["/.well-known/openid-configuration"]
    bare = {name: document[name] for name in ("issuer", "jwks_uri")}
    issuer.said["/.well-known/openid-configuration"] = status, bare
    with Scene(OpenidConnect, {"issuer": issuer.url}) as scene:
        assert bearer(scene, issuer.token()).status == 200
        assert bearer(scene, "opaque").status == 401
        assert basic(scene, "", "").status == 401
        assert scene.send().status == 401


def test_password_is_shown_to_the_issuer_once(issuer: Issuer) -> None:
    issuer.said["/token"] = 200, {"access_token": issuer.token(), "expires_in": 60, "refresh_token": "r"}
    with issuer.scene(
        auth_methods=["password"],
        scopes=["openid", "read"],
        audience=["api"],
        token_post_args_names=["x"],
        token_post_args_values=["y"],
        token_headers_replay=["X-Replayed"],
        token_headers_prefix="Got-",
    ) as scene:
        first = basic(scene, "alice", "alices-own")
        assert (first.status, first.headers["got-x-replayed"]) == (200, "yes")
        assert basic(scene, "alice", "alices-own").status == 200
        assert issuer.count("/token") == 1
        form = next(form for path, form, _ in issuer.asked if path == "/token")
        own = {"grant_type": "password", "username": "alice", "password": "alices-own"}
        assert form == {**own, "scope": "openid read", "audience": "api", "x": "y"}
        assert upstream_header(first, "Authorization") == f"Bearer {issuer.said['/token'][1]['access_token']}"
        issuer.said["/token"] = 400, {"error": "invalid_grant"}
        assert basic(scene, "alice", "guessed").status == 401
        assert basic(scene, "alice", "alices-own").status == 200
        scene.clock.turn(seconds=61)
        assert basic(scene, "alice", "alices-own").status == 401
        assert not any("alices-own" in line for _, line in scene.host.lines)


def test_client_may_not_change_what_is_asked_by_what_it_passes_on(issuer: Issuer) -> None:
    issuer.said["/token"] = 200, {"access_token": "opaque", "expires_in": 60}
    with issuer.scene(auth_methods=["password"], token_post_args_client=["grant_type", "tenant"]) as scene:
        pair = base64.b64encode(b"alice:alices-own").decode()
        target, authorization = "/?grant_type=client_credentials&tenant=", {"Authorization": f"Basic {pair}"}
        for tenant in ("a", "a", "b"):
            assert scene.send(target=target + tenant, headers=authorization).status == 200
        forms = [form for path, form, _ in issuer.asked if path == "/token"]
        assert [(form["grant_type"], form["tenant"]) for form in forms] == [("password", "a"), ("password", "b")]


def test_client_credentials_are_the_clients_own(issuer: Issuer) -> None:
    issuer.said["/token"] = 200, {"access_token": issuer.token(sub="service"), "expires_in": 60}
    with issuer.scene(auth_methods=["client_credentials"]) as scene:
        assert basic(scene, "service", "services own").status == 200
        _, form, headers = issuer.asked[-2] if issuer.asked[-1][0] == "/jwks" else issuer.asked[-1]
        assert form == {"grant_type": "client_credentials"}
        assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"service:services+own"
        issuer.said["/token"] = 401, {"error": "invalid_client"}
        assert basic(scene, "service", "guessed").status == 401


def test_opaque_token_that_was_granted_is_asked_about_where_its_claims_matter(issuer: Issuer) -> None:
    issuer.said["/token"] = 200, {"access_token": "opaque", "expires_in": 60}
    issuer.said["/introspection"] = 200, {"active": True, "sub": "alice"}
    with issuer.scene(auth_methods=["password", "introspection"], consumer_claim=["sub"]) as scene:
        assert upstream_header(basic(scene, "alice", "own"), "X-Consumer-ID") == ALICE["id"]


def test_userinfo_lets_pass_and_is_searched(issuer: Issuer) -> None:
    issuer.said["/userinfo"] = 200, {"sub": "alice", "groups": ["dev"]}
    with issuer.scene(auth_methods=["userinfo"], groups_required=["dev"]) as scene:
        assert [bearer(scene, "opaque").status for _ in range(3)] == [200, 200, 200]
        assert issuer.count("/userinfo") == 1
        issuer.said["/userinfo"] = 401, {}
        assert bearer(scene, "another").status == 401
    issuer.said["/userinfo"] = 200, {"sub": "alice", "groups": ["dev"]}
    with issuer.scene(search_user_info=True, groups_required=["dev"]) as scene:
        assert bearer(scene, issuer.token()).status == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"expires_in": 0}, 200),
        ({"created_at": NOW_S - 7_201}, 401),
        ({"service": {"id": "b2222222-2222-4222-8222-222222222222"}}, 401),
        ({"service": {"id": SERVICE_ID}}, 200),
    ],
)
def test_token_of_our_own_oauth2(issuer: Issuer, changes: dict[str, Any], status: int) -> None:
    credential = {"id": "c1111111-1111-4111-8111-111111111111", "client_id": "app", "consumer": {"id": ALICE["id"]}}
    row = {
        "id": "d1111111-1111-4111-8111-111111111111",
        "created_at": NOW_S,
        "expires_in": 7_200,
        "access_token": "own",
        "scope": "read",
        "authenticated_userid": "bob",
        "credential": {"id": credential["id"]},
        "service": None,
        **changes,
    }
    rows = {"oauth2_tokens": [row], "oauth2_credentials": [credential]}
    with issuer.scene(auth_methods=["kong_oauth2"], scopes_required=["read"], rows=rows) as scene:
        outcome = bearer(scene, "own")
        assert outcome.status == status
        if status == 200:
            assert upstream_header(outcome, "X-Consumer-Username") == "alice"
        assert bearer(scene, "unknown").status == 401


def test_gateway_without_oauth2_has_no_tokens_of_its_own(issuer: Issuer) -> None:
    async def no_table(operation: str, args: bytes, timeout_ms: int) -> bytes:
        raise CallFailed("invalid unique access_token", f"{operation}: no such table, {len(args)} bytes, {timeout_ms} ms")

    issuer.said["/introspection"] = 200, {"active": False}
    with issuer.scene(auth_methods=["kong_oauth2", "introspection"]) as scene:
        scene.host.entities.connect(no_table)
        assert [bearer(scene, "opaque").status for _ in range(2)] == [401, 401]
        assert sum("oauth2 is not loaded" in line for _, line in scene.host.lines) == 1
