# SPDX-License-Identifier: Apache-2.0
"""Does an authorization server's word open a Route, for as long as it is good and no longer?"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.blueprints import Blueprints, unique
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin, answer, silent
from tests.support.ports import free_port
from tests.support.servers.oidc_provider import GATEWAY, GATEWAY_SECRET, SERVICE, SERVICE_SECRET, OidcProvider
from tests.support.wait import until

WORKERS = 2
AUTHORIZATION = "Basic " + base64.b64encode(f"{GATEWAY}:{GATEWAY_SECRET}".encode()).decode()
INVALID = "The access token is invalid or has expired"


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider() as server:
        yield server


@pytest.fixture
def protected(blueprints: Blueprints, echo: Origin, provider: OidcProvider) -> Any:
    """Makes a path that asks the provider, by what is said."""

    def make(**config: Any) -> str:
        said = {"introspection_url": f"{provider.issuer}/token/introspection", "authorization_value": AUTHORIZATION, **config}
        return blueprints.plugged(echo, "oauth2-introspection", **said)

    return make


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_active_token_passes_and_the_upstream_is_told(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, provider: OidcProvider, protected: Any
) -> None:
    shop = blueprints.admin.put(f"/consumers/{unique('shop')}", {"custom_id": SERVICE})
    path = protected(consumer_by="client_id", hide_credentials=True, custom_claims_forward=["client_id"])
    token = provider.token(client=(SERVICE, SERVICE_SECRET), scope="read")["access_token"]
    provider.control("forget")
    for lines in ((bearer(token),), (f"Authorization: token {token}",)):
        for _ in range(3):
            assert gateway.get(path, *lines, "X-Credential-Scope: admin", "X-Credential-Sub: root").status == 200
            assert echo.last.header("X-Consumer-ID") == shop["id"]
            assert echo.last.header("X-Credential-Scope") == "read"
            assert echo.last.header("X-Credential-Client-ID") == SERVICE
            assert echo.last.header("X-Credential-Sub") != "root"
            assert echo.last.header("Authorization") is None
    assert gateway.get(f"{path}?access_token={token}&a=b").status == 200
    assert "access_token" not in echo.last.target
    # Each worker asks once, whatever place it came in.
    assert 1 <= provider.requests("/token/introspection") <= 2
    blueprints.admin.delete(f"/consumers/{shop['id']}")
    gateway.settle()
    assert gateway.get(path, bearer(token)).status == 200
    assert echo.last.header("X-Consumer-ID") is None


def test_nobody_without_an_active_token(gateway: Gateway, protected: Any) -> None:
    path = protected()
    missing = gateway.get(path)
    assert (missing.status, missing.header("WWW-Authenticate")) == (401, 'Bearer realm="service"')
    assert json.loads(missing.body) == {"error": "invalid_request", "error_description": "The access token is missing"}
    invalid = gateway.get(path, bearer("unknown"))
    assert (invalid.status, json.loads(invalid.body)) == (401, {"error": "invalid_token", "error_description": INVALID})
    assert 'error="invalid_token"' in (invalid.header("WWW-Authenticate") or "")


@pytest.mark.parametrize(
    "lines",
    [
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Bearer a b",),
        ("Authorization: Bearer \xff\xfe",),
        ("Authorization: Bearer a", "Authorization: Bearer b"),
    ],
)
def test_malformed_tokens_are_not_asked_about(
    gateway: Gateway, provider: OidcProvider, protected: Any, lines: tuple[str, ...]
) -> None:
    path = protected()
    provider.control("forget")
    assert gateway.get(path, *lines).status == 401
    assert provider.requests("/token/introspection") == 0


def test_revoked_token_passes_for_its_ttl_at_most(gateway: Gateway, provider: OidcProvider, protected: Any) -> None:
    token = provider.token()["access_token"]
    remembers, asks = protected(ttl=300), protected(ttl=0.001)
    assert {gateway.get(path, bearer(token)).status for path in (remembers, asks) for _ in range(8)} == {200}
    provider.control("revoke-all")
    assert gateway.get(remembers, bearer(token)).status == 200
    assert gateway.get(asks, bearer(token)).status == 401


def test_anonymous_passes_as_a_consumer(gateway: Gateway, blueprints: Blueprints, echo: Origin, protected: Any) -> None:
    guest = blueprints.consumer()
    path = protected(anonymous=guest["username"])
    assert gateway.get(path, bearer("unknown"), "X-Credential-Scope: admin").status == 200
    assert echo.last.header("X-Consumer-ID") == guest["id"]
    assert echo.last.header("X-Credential-Scope") is None


def test_server_is_told_of_the_request(gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any) -> None:
    server = make_origin(answer(b'{"active": true}'))
    path = blueprints.plugged(
        echo,
        "oauth2-introspection",
        introspection_url=server.url,
        authorization_value="x",
        introspect_request=True,
        token_type_hint="access_token",
        custom_introspection_headers={"X-Own": "1"},
    )
    assert gateway.get(f"{path}/a%0d%0ab", bearer("one")).status == 200
    # As it came: a line feed would begin a header of the client's choice.
    assert server.last.header("X-Request-Path") == f"{path}/a%0d%0ab"
    assert server.last.header("X-Request-Http-Method") == "GET"
    assert server.last.header("X-Own") == "1"
    assert server.last.body == b"token=one&token_type_hint=access_token"
    before = len(server.requests)
    assert gateway.get(f"{path}/other", bearer("one")).status == 200
    assert len(server.requests) > before


def test_server_is_told_of_a_path_with_bytes_that_are_no_text(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any
) -> None:
    server = make_origin(answer(b'{"active": true}'))
    config = {"introspection_url": server.url, "authorization_value": "x", "introspect_request": True}
    path = blueprints.plugged(echo, "oauth2-introspection", **config)
    assert gateway.get(f"{path}/\xff\xfe", bearer("one")).status == 200
    assert server.last.header("X-Request-Path") == f"{path}/%FF%FE"


def test_server_is_asked_once_for_all_who_wait_and_for_all_who_guess_again(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any
) -> None:
    """Neither a crowd nor a client that tries on and on multiplies what the server has to do."""
    for said, status in ((b'{"active": true}', 200), (b'{"active": false}', 401)):
        held, released = threading.Event(), threading.Event()

        def slow(connection: Connection, said: bytes = said, held: Any = held, released: Any = released) -> None:
            received = connection.read_head()
            connection.read_body(received)
            held.set()
            assert released.wait(10)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(said), said))

        server = make_origin(slow)
        path = blueprints.plugged(echo, "oauth2-introspection", introspection_url=server.url, authorization_value="x")
        with ThreadPoolExecutor(16) as pool:
            replies = [pool.submit(gateway.get, path, bearer("one")) for _ in range(16)]
            assert held.wait(10)
            released.set()
            assert {reply.result().status for reply in replies} == {status}
        assert {gateway.get(path, bearer("one")).status for _ in range(16)} == {status}
        assert len(server.requests) <= WORKERS


def test_claim_whose_name_is_no_header_name(gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any) -> None:
    server = make_origin(answer(b'{"active": true, "https://example.com/groups": ["dev", "ops"]}'))
    path = blueprints.plugged(
        echo,
        "oauth2-introspection",
        introspection_url=server.url,
        authorization_value="x",
        custom_claims_forward=["https://example.com/groups"],
    )
    assert gateway.get(path, bearer("one"), "X-Credential-https-example-com-groups: root").status == 200
    assert echo.last.all("X-Credential-https-example-com-groups") == ["dev ops"]


def test_users_token_leads_to_the_consumer_of_that_name(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any
) -> None:
    consumer = blueprints.consumer()
    claims = {"active": True, "username": consumer["username"], "client_id": "app", "sub": "7", "scope": "read write"}
    server = make_origin(answer(json.dumps(claims).encode()))
    path = blueprints.plugged(echo, "oauth2-introspection", introspection_url=server.url, authorization_value="x")
    for _ in range(8):
        assert gateway.get(path, bearer("one")).status == 200
        assert echo.last.header("X-Consumer-ID") == consumer["id"]
        assert echo.last.header("X-Credential-Identifier") == consumer["username"]
        assert echo.last.header("X-Credential-Sub") == "7"
    # Renamed, it is somebody else; at once, though what the server said is still remembered.
    blueprints.admin.patch(f"/consumers/{consumer['id']}", {"username": unique("renamed")})
    gateway.settle()
    for _ in range(8):
        assert gateway.get(path, bearer("one")).status == 200
        assert echo.last.header("X-Consumer-ID") is None


def test_decision_ends_with_its_token(gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any) -> None:
    """However long `ttl` is, and though the server goes on saying that it is active."""
    ends_s = int(time.time()) + 2
    server = make_origin(answer(json.dumps({"active": True, "exp": ends_s}).encode()))
    config = {"introspection_url": server.url, "authorization_value": "x", "ttl": 600}
    path = blueprints.plugged(echo, "oauth2-introspection", **config)
    assert gateway.get(path, bearer("one")).status == 200
    until(lambda: gateway.get(path, bearer("one")).status == 401, "the token to end", 5)
    assert time.time() >= ends_s


def test_two_tokens_in_one_request(gateway: Gateway, echo: Origin, provider: OidcProvider, protected: Any) -> None:
    """The upstream might look at the one that nobody judged."""
    path, token = protected(), provider.token()["access_token"]
    assert gateway.get(f"{path}?access_token={token}", bearer(token)).status == 200
    echo.forget()
    for query in ("access_token=other", f"access_token={token}&access_token=other", "%61ccess_token=other"):
        assert gateway.get(f"{path}?{query}", bearer(token)).status == 401
    assert not echo.requests


def _lies(body: bytes, status: int = 200) -> Any:
    return answer(body, status=f"{status} Said")


def endless(connection: Connection) -> None:
    """An answer that never ends."""
    connection.read_head()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 200_000)
    connection.wait_gone()


@pytest.mark.parametrize(
    "behaviour",
    [
        _lies(b"{"),
        _lies(b"[]"),
        _lies(b"{}"),
        _lies(b'{"active": "yes"}'),
        _lies(b'{"active": true}', 500),
        _lies(b'{"active": true}', 401),
        _lies(b'{"active": true, "active": true' + b" " * 70_000 + b"}"),
        endless,
        silent,
    ],
    ids=["broken", "list", "silent about it", "text", "failing", "refusing", "huge", "endless", "slow"],
)
def test_lying_or_slow_server_opens_nothing_and_is_named(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any, behaviour: Any
) -> None:
    server = make_origin(behaviour)
    path = blueprints.plugged(
        echo, "oauth2-introspection", introspection_url=server.url, authorization_value="own-secret", timeout=500
    )
    reply = gateway.get(path, bearer("tokens-own-text"))
    assert (reply.status, "An unexpected error occurred" in reply.text) == (500, True)
    record = gateway.failures.wait_for(reply.request_id)[0]
    assert "identity_system_failed" in record
    assert f"introspection endpoint http://127.0.0.1:{server.port}/" in record
    told = record + gateway.error_log.path.read_text()
    assert "tokens-own-text" not in told
    assert "own-secret" not in told


def test_claims_that_would_add_headers(gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any) -> None:
    claims = {"active": True, "scope": "a\r\nX-Admin: 1", "sub": "b\nc", "aud": ["one", "two"], "iss": {"x": "\r\n"}}
    server = make_origin(answer(json.dumps(claims).encode()))
    path = blueprints.plugged(echo, "oauth2-introspection", introspection_url=server.url, authorization_value="x")
    assert gateway.get(path, bearer("one")).status == 200
    received = echo.last
    assert received.header("X-Admin") is None
    assert received.header("X-Credential-Scope") is None
    assert received.header("X-Credential-Aud") == "one two"


@pytest.mark.parametrize("claims", [{"exp": 1}, {"nbf": 4_000_000_000}, {"exp": "soon"}])
def test_token_that_is_over_is_refused_whatever_the_server_says(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, make_origin: Any, claims: dict[str, Any]
) -> None:
    server = make_origin(answer(json.dumps({"active": True, **claims}).encode()))
    path = blueprints.plugged(echo, "oauth2-introspection", introspection_url=server.url, authorization_value="x")
    assert gateway.get(path, bearer("one")).status == 401


def test_server_down_but_for_what_it_said(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    port = free_port()
    with Origin(answer(b'{"active": true}'), port=port) as server:
        url = server.url
        path = blueprints.plugged(echo, "oauth2-introspection", introspection_url=url, authorization_value="x", ttl=600)
        assert {gateway.get(path, bearer("known")).status for _ in range(16)} == {200}
    assert gateway.get(path, bearer("known")).status == 200
    assert gateway.get(path, bearer("other")).status == 500
