# SPDX-License-Identifier: Apache-2.0
"""Do applications get tokens from a real gateway, and may they use them at every worker?"""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

import pytest

from tests.auth.applications import CHALLENGE, FORM, HOME, OTHER_HOME, PROVISION_KEY, VERIFIER, Application, Door, refusal
from tests.support import raw
from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.wait import until

WORKERS = 2
PROXY = "127.0.0.2"
"""The address of a trusted proxy; the tests' own one is not."""
SETTINGS = {"trusted_ips": PROXY}
INVALID = (401, "invalid_token", "The access token is invalid or has expired")


@pytest.fixture(scope="module")
def door(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Door:
    return Door(gateway, blueprints, echo, scopes=["read", "write"], hide_credentials=True)


@pytest.fixture(scope="module")
def application(blueprints: Blueprints, door: Door) -> Application:
    made = Application(blueprints)
    door.gateway.settle()
    return made


def test_code_leads_to_a_token_that_every_worker_knows(door: Door, application: Application, echo: Origin) -> None:
    code = door.authorize(application, scope="read", state="s p", code_challenge=CHALLENGE, code_challenge_method="S256")
    assert (code["status"], code["address"], code["state"]) == ("200", HOME, "s p")
    reply = door.exchange(application, code["code"], code_verifier=VERIFIER, state="s p")
    assert (reply.status, reply.header("Cache-Control"), reply.header("Pragma")) == (200, "no-store", "no-cache")
    token = json.loads(reply.body)
    assert (token["token_type"], token["expires_in"], token["state"]) == ("bearer", 7200, "s p")
    # On connections of their own: one in 2^23 that all of them meet the worker that gave the token, or the other one.
    assert {door.knock(token["access_token"], "X-Authenticated-UserId: root").status for _ in range(24)} == {200}
    assert len(echo.requests) == 24
    told = echo.last
    assert told.header("X-Consumer-ID") == application.consumer["id"]
    assert told.header("X-Credential-Identifier") == application.row["client_id"]
    assert told.header("X-Authenticated-Scope") == "read"
    assert told.header("X-Authenticated-UserId") == "user-7"
    assert told.header("Authorization") is None


@pytest.mark.parametrize("grant", ["password", "client_credentials", "token"])
def test_other_grants(door: Door, application: Application, echo: Origin, grant: str) -> None:
    user = {"provision_key": PROVISION_KEY, "authenticated_userid": "user-8", "scope": "read write"}
    if grant == "token":
        token = door.authorize(application, response_type="token", **user)
        assert token["token_type"] == "bearer"
    else:
        token = json.loads(door.ask(application, grant, **(user if grant == "password" else {})).body)
    assert ("refresh_token" in token) is (grant == "password")
    assert door.knock(token["access_token"]).status == 200
    assert echo.last.header("X-Authenticated-UserId") == (None if grant == "client_credentials" else "user-8")


def test_application_proves_itself_in_a_header(door: Door, application: Application) -> None:
    reply = door.post("token", {"grant_type": "client_credentials"}, application.basic)
    assert reply.status == 200
    wrong = door.post("token", {"grant_type": "client_credentials"}, "Authorization: Basic YTpi")
    assert refusal(wrong) == (401, "invalid_client", "Invalid client authentication")
    assert wrong.header("WWW-Authenticate") == 'Basic realm="OAuth2.0"'


def test_application_whose_secret_only_a_hash_is_kept_of(door: Door, blueprints: Blueprints) -> None:
    hidden = Application(blueprints, hash_secret=True)
    door.gateway.settle()
    assert hidden.row["client_secret"].startswith("$pbkdf2-sha512$")
    assert {door.ask(hidden, "client_credentials").status for _ in range(4)} == {200}
    assert door.ask(hidden, "client_credentials", client_secret=hidden.row["client_secret"]).status == 400


def test_public_application_uses_pkce(door: Door, blueprints: Blueprints) -> None:
    public = Application(blueprints, client_type="public")
    door.gateway.settle()
    assert door.authorize(public)["error_description"] == "code_challenge is required for public clients"
    code = door.code(public, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert door.exchange(public, code, code_verifier=VERIFIER).status == 200


def test_refreshing_on_whichever_worker(door: Door, application: Application) -> None:
    token = door.token(application)
    seen = [token["access_token"]]
    for _ in range(6):
        reply = door.ask(application, "refresh_token", refresh_token=token["refresh_token"])
        assert reply.status == 200, reply
        token = json.loads(reply.body)
        seen.append(token["access_token"])
    door.gateway.settle()
    assert {door.knock(token["access_token"]).status for _ in range(8)} == {200}
    assert {door.knock(old).status for old in seen[:-1]} == {401}


def test_refresh_token_that_is_kept(gateway: Gateway, blueprints: Blueprints, echo: Origin, application: Application) -> None:
    door = Door(gateway, blueprints, echo, reuse_refresh_token=True, token_expiration=3600)
    token = door.token(application)
    assert {door.knock(token["access_token"]).status for _ in range(8)} == {200}
    for _ in range(3):
        reply = json.loads(door.ask(application, "refresh_token", refresh_token=token["refresh_token"]).body)
        assert (reply["refresh_token"], reply["expires_in"]) == (token["refresh_token"], 3600)
    gateway.settle()
    assert {door.knock(reply["access_token"]).status for _ in range(8)} == {200}
    assert {door.knock(token["access_token"]).status for _ in range(8)} == {401}


def test_token_ends_by_itself(gateway: Gateway, blueprints: Blueprints, echo: Origin, application: Application) -> None:
    door = Door(gateway, blueprints, echo, token_expiration=1)
    token = json.loads(door.ask(application, "client_credentials").body)["access_token"]
    until(lambda: door.knock(token).status == 401, "the token to end", 5)
    assert refusal(door.knock(token)) == INVALID


def test_token_is_for_its_service_unless_it_is_global(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, door: Door, application: Application
) -> None:
    own = door.token(application)["access_token"]
    wide, wider = (Door(gateway, blueprints, echo, global_credentials=True) for _ in range(2))
    of_all = wide.token(application)["access_token"]
    assert [one.knock(of_all).status for one in (wide, wider)] == [200, 200]
    assert refusal(door.knock(of_all))[2].startswith("The access token is global")
    assert refusal(wide.knock(own)) == INVALID


def test_another_address_of_the_application(door: Door, application: Application) -> None:
    code = door.authorize(application, redirect_uri=OTHER_HOME)
    assert code["address"] == OTHER_HOME
    assert door.exchange(application, code["code"], redirect_uri=OTHER_HOME).status == 200


def test_only_a_trusted_proxy_may_say_that_it_ended_tls(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, door: Door, application: Application
) -> None:
    behind = Door(gateway, blueprints, echo, accept_http_if_already_terminated=True)
    fields = b"&".join(f"{name}={value}".encode() for name, value in application.fields.items()).replace(b" ", b"+")
    body = fields + b"&grant_type=client_credentials"

    def ask(one: Door, address: str, *lines: str) -> raw.Reply:
        client = raw.Client(gateway.proxy_port)
        client.close()
        client.socket = socket.create_connection(("127.0.0.1", gateway.proxy_port), 10, source_address=(address, 0))
        with client:
            return client.send(raw.request("POST", f"{one.path}/oauth2/token", FORM, *lines, body=body)).read_reply()

    https = "X-Forwarded-Proto: https"
    assert ask(behind, PROXY, https).status == 200
    for reply in (ask(behind, "127.0.0.1", https), ask(behind, PROXY), ask(door, PROXY, https)):
        assert refusal(reply) == (400, "access_denied", "You must use HTTPS")


def test_either_a_token_or_a_key(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    guest, friend = blueprints.consumer(), blueprints.consumer()
    door = Door(gateway, blueprints, echo, anonymous=guest["username"])
    route = blueprints.admin.get(f"/routes/{door.path.removeprefix('/')}")
    blueprints.plugin("key-auth", route, "route", anonymous=guest["id"])
    key, application = blueprints.key(friend), Application(blueprints)
    gateway.settle()
    token = door.token(application)["access_token"]
    for lines, consumer in (
        ((f"Authorization: Bearer {token}",), application.consumer),
        ((f"apikey: {key}",), friend),
        ((f"Authorization: Bearer {token}", f"apikey: {key}"), application.consumer),
        (("Authorization: Bearer unknown", "X-Authenticated-UserId: root"), guest),
    ):
        assert gateway.get(door.path, *lines).status == 200
        assert echo.last.header("X-Consumer-ID") == consumer["id"]
        assert echo.last.header("X-Anonymous-Consumer") == ("true" if consumer is guest else None)
    assert echo.last.header("X-Authenticated-UserId") is None


def test_known_tokens_pass_while_control_is_away(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, application: Application
) -> None:
    door = Door(gateway, blueprints, echo)
    token = door.token(application)["access_token"]
    assert {door.knock(token).status for _ in range(16)} == {200}
    control = gateway.control_pid()
    os.kill(control, signal.SIGSTOP)
    try:
        assert {door.knock(token).status for _ in range(4)} == {200}
    finally:
        os.kill(control, signal.SIGCONT)
    gateway.settle()


def test_made_and_revoked_through_the_admin_api(
    gateway: Gateway, blueprints: Blueprints, door: Door, application: Application
) -> None:
    """What Kong's users migrate: tokens made elsewhere, with the Service they are for."""
    service = blueprints.admin.get(f"/routes/{door.path.removeprefix('/')}")["service"]
    made: dict[str, Any] = {
        "credential": {"id": application.row["id"]},
        "service": service,
        "access_token": unique("own-token"),
        "expires_in": 600,
    }
    assert door.knock(made["access_token"]).status == 401
    row = blueprints.admin.post("/oauth2_tokens", made)
    gateway.settle()
    assert {door.knock(made["access_token"]).status for _ in range(8)} == {200}
    blueprints.admin.delete(f"/oauth2_tokens/{row['id']}")
    gateway.settle()
    assert {door.knock(made["access_token"]).status for _ in range(8)} == {401}
