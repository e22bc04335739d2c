# SPDX-License-Identifier: Apache-2.0
"""Does oauth2 let anybody in, or send a user anywhere, that it should not?"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.auth.applications import CHALLENGE, FORM, HOME, OTHER_HOME, PROVISION_KEY, VERIFIER, Application, Door, refusal
from tests.support import raw
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2
AT_ONCE = 12
WRONG_CODE = (400, "invalid_request", "Invalid code")
WRONG_REFRESH_TOKEN = (400, "invalid_request", "Invalid refresh_token")
INVALID = (401, "invalid_token", "The access token is invalid or has expired")
REPLACED = "a-secret-after-the-other"


@pytest.fixture(scope="module")
def door(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> Door:
    return Door(gateway, blueprints, echo, scopes=["read", "write"], pkce="none")


@pytest.fixture(scope="module")
def application(blueprints: Blueprints, door: Door) -> Application:
    made = Application(blueprints)
    door.gateway.settle()
    return made


@pytest.fixture(scope="module")
def rival(blueprints: Blueprints, door: Door) -> Application:
    """Somebody else's application, whose owner has a look at what comes by."""
    made = Application(blueprints, redirect_uris=["https://rival.test/back"])
    door.gateway.settle()
    return made


def shut(door: Door, token: str) -> None:
    """The token opens nothing, at no worker, and the upstream hears of none of it."""
    door.gateway.settle()
    echoed = {refusal(door.knock(token)) for _ in range(8)}
    assert echoed == {INVALID}


# === codes ===


def test_code_reuse_by_a_race(door: Door, application: Application) -> None:
    """RFC 6749, section 10.5: of all who come with it at once, at both workers, one gets a token."""
    for _ in range(3):
        code = door.code(application)
        statuses = door.together(AT_ONCE, application, "authorization_code", code=code)
        assert statuses == [200, *[400] * (AT_ONCE - 1)]
        assert refusal(door.exchange(application, code)) == WRONG_CODE


def test_code_injection(door: Door, application: Application, rival: Application) -> None:
    """A code that leaked is of no use to another application, nor lost for its own."""
    code = door.code(application)
    assert refusal(door.exchange(rival, code)) == WRONG_CODE
    assert refusal(door.ask(rival, "authorization_code", code=code, redirect_uri="https://rival.test/back")) == WRONG_CODE
    mixed = {**application.fields, "client_secret": rival.secret, "grant_type": "authorization_code", "code": code}
    assert refusal(door.post("token", mixed)) == (400, "invalid_client", "Invalid client authentication")
    assert door.exchange(application, code).status == 200


def test_code_injection_at_another_address(door: Door, application: Application) -> None:
    """A code given for one address is no good for who names another, even one of the same application (section 10.6)."""
    code = door.code(application, redirect_uri=OTHER_HOME)
    assert refusal(door.exchange(application, code)) == WRONG_CODE
    assert refusal(door.exchange(application, code, redirect_uri=HOME)) == WRONG_CODE
    assert refusal(door.exchange(application, code, redirect_uri="https://evil.test/"))[1] == "invalid_request"
    assert door.exchange(application, code, redirect_uri=OTHER_HOME).status == 200


def test_code_at_another_route(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, door: Door, application: Application
) -> None:
    other = Door(gateway, blueprints, echo, pkce="none")
    assert refusal(other.exchange(application, door.code(application))) == WRONG_CODE
    wide, wider = (Door(gateway, blueprints, echo, pkce="none", global_credentials=True) for _ in range(2))
    assert refusal(wider.exchange(application, wide.code(application))) == WRONG_CODE


def test_code_or_refresh_token_as_an_access_token(door: Door, application: Application) -> None:
    shut(door, door.code(application))
    shut(door, door.token(application)["refresh_token"])


def test_pkce_downgrade(door: Door, application: Application) -> None:
    """RFC 7636 and RFC 9700, section 4.8: neither left out, nor made `plain`, nor taken out on the way."""
    protected = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    code = door.code(application, **protected)
    assert refusal(door.exchange(application, code))[2] == "code_verifier is required for PKCE authorization requests"
    for wrong in (VERIFIER + "x", CHALLENGE, CHALLENGE + "=", VERIFIER[:-1]):
        assert refusal(door.exchange(application, code, code_verifier=wrong)) == (400, "invalid_grant", "Invalid code")
    for method in ("plain", "s256", "", None, "S512"):
        said = door.authorize(application, code_challenge=VERIFIER, code_challenge_method=method)
        assert said["error"] == "invalid_request"
    stripped = door.code(application)
    assert refusal(door.exchange(application, stripped, code_verifier=VERIFIER)) == (400, "invalid_grant", "Invalid code")
    assert door.exchange(application, code, code_verifier=VERIFIER).status == 200


@pytest.mark.parametrize("setting", ["lax", "strict"])
def test_pkce_left_out_where_it_is_required(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, application: Application, setting: str
) -> None:
    door = Door(gateway, blueprints, echo, pkce=setting)
    public = Application(blueprints, client_type="public")
    gateway.settle()
    for one in [public] if setting == "lax" else [public, application]:
        assert door.authorize(one)["error_description"] == f"code_challenge is required for {one.row['client_type']} clients"


# === where users are sent ===

ADDRESSES = [
    "https://evil.test/",
    "https://app.test/back/",
    "https://app.test/back?x=1",
    "https://app.test/back#x",
    "https://app.test/backdoor",
    "https://app.test/",
    "https://APP.test/back",
    "http://app.test/back",
    "https://app.test:443/back",
    "https://app.test@evil.test/back",
    "https://app.test/back/../../evil",
    "https://app.test/%62ack",
    "//evil.test/back",
    "javascript:alert(1)",
    "https://app.test/back\r\nLocation: https://evil.test/",
    " https://app.test/back",
]


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_open_redirect(door: Door, application: Application, address: str) -> None:
    """RFC 9700, section 4.1.1: an address is compared to the letter, and what is wrong is told to a registered one."""
    for wanted in ("code", "token"):
        said = door.authorize(application, redirect_uri=address, response_type=wanted)
        assert (said["status"], said["address"], said["error"]) == ("400", HOME, "invalid_request")
        assert not {"code", "access_token"} & said.keys()


def test_two_addresses_in_one_request(door: Door, application: Application) -> None:
    said = door.authorize(application, redirect_uri=[HOME, "https://evil.test/"])
    assert (said["address"], said["error"]) == (HOME, "invalid_request")


def test_address_of_another_application(door: Door, application: Application) -> None:
    said = door.authorize(application, redirect_uri="https://rival.test/back")
    assert (said["address"], said["error"]) == (HOME, "invalid_request")


def test_csrf_state(door: Door, application: Application) -> None:
    """The client gets back what it said, byte for byte, with codes, tokens and errors; it adds no parameter and no line."""
    state = "a&code=evil#\r\nX-Admin: 1 ü%00\u2028"
    for wanted in ("code", "token", "nonsense"):
        said = door.authorize(application, response_type=wanted, state=state)
        assert said["state"] == state
        assert said.get("code") != "evil"
    reply = door.ask(application, "client_credentials", state=state)
    assert json.loads(reply.body)["state"] == state
    assert reply.header("X-Admin") is None


# === who asks ===


@pytest.mark.parametrize("secret", ["", "wrong", "secret", None, "secret of ", ["a", "b"]])
def test_wrong_client_authentication(door: Door, application: Application, secret: Any) -> None:
    for grant in ("client_credentials", "authorization_code", "refresh_token", "password"):
        fields = {"client_secret": secret, "code": "x", "refresh_token": "x", "provision_key": PROVISION_KEY}
        reply = door.ask(application, grant, **{**fields, "authenticated_userid": "root"})
        assert refusal(reply) == (400, "invalid_client", "Invalid client authentication")
        assert reply.header("Cache-Control") == "no-store"


def test_one_application_in_the_header_and_another_in_the_body(door: Door, application: Application, rival: Application) -> None:
    for fields in (rival.fields, {"client_id": rival.row["client_id"]}):
        reply = door.post("token", {"grant_type": "client_credentials", **fields}, application.basic)
        assert refusal(reply) == (401, "invalid_client", "Invalid client authentication")
        assert reply.header("WWW-Authenticate") == 'Basic realm="OAuth2.0"'


def test_public_application_as_its_consumer(door: Door, blueprints: Blueprints) -> None:
    """Its id is no secret: by that alone nobody becomes its Consumer (RFC 6749, section 4.4)."""
    public = Application(blueprints, client_type="public")
    door.gateway.settle()
    assert refusal(door.ask(public, "client_credentials"))[1] == "unauthorized_client"


@pytest.mark.parametrize("key", [None, "", "wrong", PROVISION_KEY[:-1], PROVISION_KEY + " ", [PROVISION_KEY, PROVISION_KEY]])
def test_user_whom_no_login_application_vouches_for(door: Door, application: Application, key: Any) -> None:
    user = {"provision_key": key, "authenticated_userid": "root"}
    usual = {"client_id": application.row["client_id"], "response_type": "code"}
    refused = (400, "invalid_provision_key", "Invalid provision_key")
    assert refusal(door.post("authorize", {**usual, **user})) == refused
    for grant in ("password", "client_credentials"):
        assert refusal(door.ask(application, grant, **user)) == refused


def test_user_who_is_a_header(door: Door, application: Application) -> None:
    for name in ("root\r\nX-Consumer-Username: root", "a\0b", "a\nb", "\x7f"):
        reply = door.ask(application, "password", provision_key=PROVISION_KEY, authenticated_userid=name)
        assert refusal(reply)[1] == "invalid_authenticated_userid"


def test_scope_escalation(door: Door, application: Application, echo: Origin) -> None:
    refused = (400, "invalid_scope", '"admin" is an invalid scope')
    assert refusal(door.ask(application, "client_credentials", scope="read admin")) == refused
    user = {"provision_key": PROVISION_KEY, "authenticated_userid": "user-7", "scope": "read"}
    token = json.loads(door.ask(application, "password", **user).body)
    for scope in ("read write", "write", ["read", "write"]):
        reply = door.ask(application, "refresh_token", refresh_token=token["refresh_token"], scope=scope)
        assert refusal(reply)[:2] == (400, "invalid_scope")
    assert door.knock(token["access_token"], "X-Authenticated-Scope: read write admin").status == 200
    assert echo.last.all("X-Authenticated-Scope") == ["read"]


def test_secrets_in_clear(door: Door, application: Application, gateway: Gateway) -> None:
    """Neither endpoint does anything for who sends secrets over plain HTTP, whatever it says of a proxy."""
    body = b"grant_type=client_credentials&provision_key=" + PROVISION_KEY.encode()
    for endpoint in ("token", "authorize"):
        data = raw.request(
            "POST", f"{door.path}/oauth2/{endpoint}", FORM, "X-Forwarded-Proto: https", application.basic, body=body
        )
        assert refusal(gateway.send(data)) == (400, "access_denied", "You must use HTTPS")


# === tokens ===


def test_refresh_token_reuse(door: Door, application: Application, rival: Application) -> None:
    """RFC 9700, section 4.14: it is good once, takes its access token along, and is of no use to another application."""
    token = door.token(application)
    assert refusal(door.ask(rival, "refresh_token", refresh_token=token["refresh_token"])) == WRONG_REFRESH_TOKEN
    statuses = door.together(AT_ONCE, application, "refresh_token", refresh_token=token["refresh_token"])
    assert statuses == [200, *[400] * (AT_ONCE - 1)]
    assert refusal(door.ask(application, "refresh_token", refresh_token=token["refresh_token"])) == WRONG_REFRESH_TOKEN
    shut(door, token["access_token"])


def by_token(door: Door, token: str, application: Application) -> None:
    admin = door.gateway.admin
    admin.delete(f"/oauth2_tokens/{token}")


def by_application(door: Door, token: str, application: Application) -> None:
    door.gateway.admin.delete(f"/oauth2/{application.row['id']}")


def by_consumer(door: Door, token: str, application: Application) -> None:
    door.gateway.admin.delete(f"/consumers/{application.consumer['id']}")


@pytest.mark.parametrize("revoke", [by_token, by_application, by_consumer])
def test_token_replay_after_revocation(
    door: Door, blueprints: Blueprints, revoke: Callable[[Door, str, Application], None]
) -> None:
    """Known to both workers, and gone from both at once; refreshing does not bring it back."""
    application = Application(blueprints)
    door.gateway.settle()
    token = door.token(application)
    assert {door.knock(token["access_token"]).status for _ in range(16)} == {200}
    revoke(door, token["access_token"], application)
    shut(door, token["access_token"])
    assert door.ask(application, "refresh_token", refresh_token=token["refresh_token"]).status == 400


def test_old_secret_after_it_was_changed(door: Door, blueprints: Blueprints) -> None:
    for is_hashed in (False, True):
        application = Application(blueprints, hash_secret=is_hashed)
        door.gateway.settle()
        assert {door.ask(application, "client_credentials").status for _ in range(4)} == {200}
        place = f"/consumers/{application.consumer['id']}/oauth2/{application.row['id']}"
        blueprints.admin.patch(place, {"client_secret": REPLACED})
        door.gateway.settle()
        assert {door.ask(application, "client_credentials").status for _ in range(4)} == {400}
        assert door.ask(application, "client_credentials", client_secret=REPLACED).status == 200


def test_duplicated_credentials_in_header_and_query(
    door: Door, application: Application, rival: Application, echo: Origin
) -> None:
    """RFC 6750, section 2: which of two tokens is meant, the upstream might see otherwise."""
    mine, theirs = (door.token(one)["access_token"] for one in (application, rival))
    for reply in (
        door.knock(mine, query=f"?access_token={theirs}"),
        door.knock(mine, query=f"?%61ccess_token={theirs}"),
        door.knock(mine, f"Authorization: Bearer {theirs}"),
        door.gateway.get(f"{door.path}?access_token={mine}&access_token={theirs}"),
    ):
        assert refusal(reply)[:2] == (400, "invalid_request")
        assert 'error="invalid_request"' in (reply.header("WWW-Authenticate") or "")
    assert not echo.requests


# === malformed everything ===

ODD: Sequence[bytes] = (
    b"",
    b"=",
    b"%",
    b"%00",
    b"%FF",
    b"\xff\xfe",
    b"\x00",
    b"a" * 100_000,
    b"%ED%A0%80",
    b"%F0%9F%98%80",
    b"'--",
    b"[]",
)
NAMES = (
    *("client_id", "client_secret", "grant_type", "response_type", "scope", "state", "redirect_uri", "provision_key", "code"),
    *("authenticated_userid", "code_verifier", "code_challenge", "code_challenge_method", "refresh_token", "access_token"),
)


def test_malformed_parameters(door: Door, application: Application) -> None:
    """400 or 401 in Kong's form, or what is asked for; never 500, never a trace."""
    usual = {**application.fields, "provision_key": PROVISION_KEY, "authenticated_userid": "user-7", "response_type": "code"}
    bodies = []
    for name in NAMES:
        for odd in ODD:
            rest = "&".join(f"{key}={value}" for key, value in usual.items() if key != name).replace(" ", "+")
            grant = "refresh_token" if name == "refresh_token" else "authorization_code"
            bodies.append(f"{rest}&grant_type={grant}&{name}=".encode() + odd)
    asked = [(endpoint, body) for body in bodies for endpoint in ("token", "authorize")]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda one: door.post(*one), asked))
    for (endpoint, body), reply in zip(asked, replies, strict=True):
        assert reply.status in ((400, 401) if endpoint == "token" else (200, 400)), (endpoint, body[:300], reply)
        assert json.loads(reply.body).keys() <= {"error", "error_description", "state", "redirect_uri"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[" * 50_000),
        ("application/json", b'{"grant_type": ["x"], "client_id": {"a": 1}, "state": 7}'),
        ("application/json", b'{"grant_type": "\\ud800", "client_id": "\\u0000"}'),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=\r\n\r\n\xff\r\n--x--"),
        ("text/plain", b"grant_type=password"),
        ("\xff", b"\xff"),
    ],
)
def test_malformed_bodies(door: Door, kind: str, body: bytes) -> None:
    for endpoint in ("token", "authorize"):
        with raw.Client.tls(door.gateway.proxy_tls_port) as client:
            data = raw.request("POST", f"{door.path}/oauth2/{endpoint}", f"Content-Type: {kind}", body=body)
            assert refusal(client.send(data).read_reply())[0] == 400
    reply = door.gateway.send(raw.request("POST", door.path, f"Content-Type: {kind}", body=body))
    assert refusal(reply) == (401, "invalid_request", "The access token is missing")


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer \xff\xfe",
        "Bearer " + "a" * 6_000,
        "Bearer %00",
        "Basic \xff",
        "Basic " + "A" * 5_000,
        "Token",
        "bearer\ta",
        ",",
        "Bearer '; drop table oauth2_tokens --",
        "Bearer ../../x",
        "Basic " + base64.b64encode(b"\xff\x00:\xff").decode(),
    ],
)
def test_malformed_authorization(door: Door, application: Application, value: str) -> None:
    reply = door.gateway.get(door.path, f"Authorization: {value}")
    assert reply.status == 401
    assert (reply.header("WWW-Authenticate") or "").startswith("Bearer")
    asked = door.post("token", {"grant_type": "client_credentials"}, f"Authorization: {value}")
    assert refusal(asked)[1:] == ("invalid_client", "Invalid client authentication")


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/token/", "/%6fauth2/token", "/x/../oauth2/token", "//oauth2//token"])
def test_path_tricks_to_the_endpoints(door: Door, application: Application, echo: Origin, path: str) -> None:
    """However it is spelled, it is the endpoint or asks for a token; the upstream never sees the secrets."""
    body = b"grant_type=client_credentials&client_id=x&client_secret=y"
    with raw.Client.tls(door.gateway.proxy_tls_port) as client:
        reply = client.send(raw.request("POST", door.path + path, FORM, application.basic, body=body)).read_reply()
    assert reply.status in (400, 401)
    assert not echo.requests


def test_upload_without_a_token(door: Door, application: Application, gateway: Gateway, echo: Origin) -> None:
    """Nothing of a body that is larger than what a token is looked for in is read, let alone kept, for a stranger."""
    large = b"x" * 2_000_000
    lines = ("Content-Type: application/octet-stream", f"Content-Length: {len(large)}")
    with gateway.connect() as client:
        reply = client.send(raw.request("POST", door.path, *lines)).read_reply()
        assert refusal(reply) == (401, "invalid_request", "The access token is missing")
    token = door.token(application)["access_token"]
    reply = gateway.send(raw.request("POST", door.path, f"Authorization: Bearer {token}", lines[0], body=large))
    assert reply.status == 200
    assert echo.last.body == large


def test_secrets_in_logs(door: Door, gateway: Gateway, application: Application) -> None:
    token = door.token(application)
    door.knock(token["access_token"])
    door.ask(application, "refresh_token", refresh_token=token["refresh_token"])
    door.post("token", {"grant_type": "client_credentials"}, application.basic)
    door.ask(application, "client_credentials", client_secret="guessed-by-somebody")
    secrets = [application.secret, PROVISION_KEY, token["access_token"], token["refresh_token"], "guessed-by-somebody", VERIFIER]
    for log in gateway.prefix.glob("logs/*"):
        text = log.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], log
