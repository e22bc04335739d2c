# SPDX-License-Identifier: Apache-2.0
"""What if the issuer that openid-connect trusts is down, slow, or lies? Nobody is let in, and the operator learns why."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.auth.issuer import CLIENT_SECRET, DISCOVERY, INTROSPECTION, JWKS, TOKEN, USERINFO, Crowd, Issuer, Protect, knock
from tests.auth.keys import private_key
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin, Received
from tests.support.raw import Reply
from tests.support.wait import until

UNEXPECTED = "An unexpected error occurred"


def check_fault(gateway: Gateway, reply: Reply, *words: str) -> None:
    """Closed, and the operator is told who failed; the client is not."""
    assert (reply.status, json.loads(reply.body)["message"]) == (500, UNEXPECTED)
    record = gateway.failures.wait_for(reply.request_id)[0]
    assert "identity_system_failed" in record
    for word in words:
        assert word in record


def test_issuer_down(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path, later = protect(), protect(cache_ttl=0)
    token = issuer.token()
    assert knock(gateway, path, token) == 200
    unseen = issuer.token(sub="bob")
    never_asked = protect()
    issuer.origin.stop()
    # What was decided holds, and so do the keys that are known; whoever would have to be asked about is not let in.
    assert knock(gateway, path, token) == 200
    assert knock(gateway, path, unseen) == 200
    for closed in (never_asked, later):
        for _ in range(2):
            reply = gateway.get(closed, f"Authorization: Bearer {token}")
            check_fault(gateway, reply, f"token issuer {issuer.url}", "connection refused")
            assert token not in "".join(gateway.error_log.lines())


def test_issuer_slow(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    issuer.behave(DISCOVERY, lambda connection, _: connection.wait_gone())
    path, token = protect(timeout=300), issuer.token()
    with Crowd(gateway, path, *[f"Bearer {token}"] * 12) as crowd:
        replies = crowd.replies()
    check_fault(gateway, replies[0], f"token issuer {issuer.url}", "timeout after 300 ms")
    assert {reply.status for reply in replies} == {500}
    assert issuer.asked(DISCOVERY) == 1


def drip(connection: Connection, _: Received) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.send(b" ")
        connection.pause(0.05)


def endless(connection: Connection, _: Received) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")


def raw(data: bytes) -> Callable[[Connection, Received], None]:
    def serve(connection: Connection, _: Received) -> None:
        connection.send(data)
        connection.close()

    return serve


LIES: dict[str, tuple[str, Callable[[Issuer], Any], str]] = {
    "another_issuer": (DISCOVERY, lambda issuer: issuer.document(issuer="https://attacker.test\r\nx"), "says that it is another"),
    "issuer_below": (DISCOVERY, lambda issuer: issuer.document(issuer=issuer.url + "/realm"), "says that it is another issuer"),
    "no_issuer": (DISCOVERY, lambda issuer: issuer.document(issuer=None), "names no `issuer`"),
    "issuer_is_no_text": (DISCOVERY, lambda issuer: issuer.document(issuer=[issuer.url]), "names no `issuer`"),
    "no_json": (DISCOVERY, lambda _: b"<html>out of order</html>", "no JSON object"),
    "no_object": (DISCOVERY, lambda _: [], "no JSON object"),
    "deep": (DISCOVERY, lambda _: b"[" * 100_000, "no JSON object"),
    "no_utf8": (DISCOVERY, lambda _: b'{"issuer": "\xff"}', "no JSON object"),
    "huge": (DISCOVERY, lambda issuer: issuer.document(x="x" * 2_000_000), "more than 1048576 bytes"),
    "address_is_none": (DISCOVERY, lambda issuer: issuer.document(jwks_uri="file:///etc/passwd"), "`jwks_uri` is no address"),
    "address_is_no_text": (DISCOVERY, lambda issuer: issuer.document(jwks_uri={"a": 1}), "`jwks_uri` is no address"),
    "keys_no_json": (JWKS, lambda _: b"\0\0", "no JSON object"),
    "keys_no_list": (JWKS, lambda _: {"keys": {}}, "no list of `keys`"),
    "keys_huge": (JWKS, lambda _: {"keys": ["x" * 2_000_000]}, "more than 1048576 bytes"),
    "endless": (DISCOVERY, lambda _: endless, "more than 1048576 bytes"),
    "drip": (DISCOVERY, lambda _: drip, "timeout after 400 ms"),
    "no_http": (DISCOVERY, lambda _: raw(b"SSH-2.0-OpenSSH_9\r\n"), "no HTTP"),
    "half_a_head": (DISCOVERY, lambda _: raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "no HTTP"),
    "half_a_body": (DISCOVERY, lambda _: raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "no HTTP"),
    "huge_head": (DISCOVERY, lambda _: raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000), "no HTTP"),
    "fails": (DISCOVERY, lambda _: raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "answered 503"),
    "moved": (
        DISCOVERY,
        lambda _: raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"),
        "answered 302",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_issuer_that_lies(gateway: Gateway, issuer: Issuer, protect: Protect, lie: str) -> None:
    where, make, reason = LIES[lie]
    said = make(issuer)
    if callable(said):
        issuer.behave(where, said)
    else:
        issuer.say(where, said)
    reply = gateway.get(protect(timeout=400), f"Authorization: Bearer {issuer.token()}")
    check_fault(gateway, reply, f"token issuer {issuer.url}", reason)


@pytest.mark.parametrize("keys", [[], [None, 7, "x", []], [{}], [{"kty": "RSA", "n": 7}], [{"kty": "EC", "crv": "P-1"}] * 500])
def test_key_set_of_garbage(gateway: Gateway, issuer: Issuer, protect: Protect, keys: list[Any]) -> None:
    issuer.say(JWKS, {"keys": keys})
    assert knock(gateway, protect(), issuer.token()) == 401


def test_keys_that_were_good_outlive_an_issuer_that_begins_to_lie(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(rediscovery_lifetime=0)
    assert knock(gateway, path, issuer.token()) == 200
    issuer.say(JWKS, b"<html>out of order</html>")
    assert gateway.get(path, f"Authorization: Bearer {issuer.token(kid='new')}").status == 500
    assert knock(gateway, path, issuer.token(sub="bob")) == 200


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"active": True}, 200),
        ({"active": False}, 401),
        ({"active": "true"}, 401),
        ({"active": 1}, 401),
        ({}, 401),
        ({"active": True, "exp": 1}, 401),
        ({"active": True, "nbf": 9_999_999_999}, 401),
        ({"active": True, "exp": "later"}, 401),
        ({"active": True, "iss": "https://attacker.test"}, 401),
        ([True], 500),
        (b"active=true", 500),
        (b"{" + b" " * 2_000_000 + b"}", 500),
    ],
)
def test_introspection_that_lies(gateway: Gateway, issuer: Issuer, protect: Protect, said: Any, status: int) -> None:
    path = protect(auth_methods=["introspection"])
    issuer.say(INTROSPECTION, said)
    reply = gateway.get(path, "Authorization: Bearer opaque")
    assert reply.status == status
    if status == 500:
        check_fault(gateway, reply, INTROSPECTION)


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "429 Too Many Requests", "500 Oops", "302 Found"])
def test_introspection_out_of_order(gateway: Gateway, issuer: Issuer, protect: Protect, status: str) -> None:
    path = protect(auth_methods=["introspection"])
    issuer.say(INTROSPECTION, {"active": True}, status)
    reply = gateway.get(path, "Authorization: Bearer opaque-and-secret")
    check_fault(gateway, reply, INTROSPECTION, f"answered {status[:3]}")
    assert not gateway.error_log.containing("opaque-and-secret")
    assert not gateway.error_log.containing(CLIENT_SECRET)


def test_introspected_token_speaks_only_through_the_issuer(
    gateway: Gateway, echo: Origin, issuer: Issuer, protect: Protect
) -> None:
    """What a token says of itself counts for nothing where its signature is nobody's."""
    path = protect(
        auth_methods=["introspection"],
        upstream_headers_claims=["sub"],
        upstream_headers_names=["X-Sub"],
        groups_required=["admin"],
    )
    issuer.say(INTROSPECTION, {"active": True, "sub": "bob"})
    token = issuer.token(sub="alice", groups=["admin"], key=private_key("RS256", 3072))
    assert knock(gateway, path, token) == 403
    issuer.say(INTROSPECTION, {"active": True, "sub": "bob", "groups": ["admin"]})
    assert knock(gateway, path, issuer.token(sub="mallory", key=private_key("RS256", 3072))) == 200
    assert echo.last.header("X-Sub") == "bob"


def test_userinfo_of_another_user(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(search_user_info=True)
    issuer.say(USERINFO, {"sub": "alice"})
    assert knock(gateway, path, issuer.token()) == 200
    issuer.say(USERINFO, {"sub": "bob", "groups": ["admin"]})
    assert knock(gateway, path, issuer.token(jti="2")) == 401
    issuer.say(USERINFO, {"groups": ["admin"]})
    check_fault(gateway, gateway.get(path, f"Authorization: Bearer {issuer.token(jti='3')}"), "without a `sub`")


@pytest.mark.parametrize(
    ("said", "status", "reply_status"),
    [
        ({"error": "invalid_grant"}, "400 Bad Request", 401),
        ({"error": "secret\r\nwords"}, "400 Bad Request", 401),
        ({"error": "invalid_client"}, "401 Unauthorized", 500),
        ({}, "200 OK", 500),
        ({"access_token": ["x"]}, "200 OK", 500),
        (b"<html>", "400 Bad Request", 500),
        ({"access_token": "opaque", "id_token": "none.of.it"}, "200 OK", 401),
        ({"access_token": "opaque", "expires_in": "soon", "token_type": 7}, "200 OK", 200),
    ],
)
def test_token_endpoint_that_lies(
    gateway: Gateway, issuer: Issuer, protect: Protect, said: Any, status: str, reply_status: int
) -> None:
    path = protect(auth_methods=["password"])
    issuer.say(TOKEN, said, status)
    pair = base64.b64encode(b"alice:alices-very-own").decode()
    reply = gateway.get(path, f"Authorization: Basic {pair}")
    assert reply.status == reply_status
    for secret in ("alices-very-own", CLIENT_SECRET, pair):
        assert not gateway.error_log.containing(secret)
        assert not gateway.failures.containing(secret)


def test_guesses_at_once_of_one_password_ask_once(gateway: Gateway, issuer: Issuer, protect: Protect) -> None:
    path = protect(auth_methods=["password"])
    pair = base64.b64encode(b"alice:alices-very-own").decode()

    def slow(connection: Connection, _: Received) -> None:
        connection.pause(0.2)
        data = b'{"access_token":"opaque","expires_in":60}'
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))

    issuer.behave(TOKEN, slow)
    with Crowd(gateway, path, *[f"Basic {pair}"] * 12) as crowd:
        # The first to ask leaves.
        until(lambda: issuer.asked(TOKEN), "the token endpoint to be asked")
        crowd.clients.pop(0).close()
        assert {reply.status for reply in crowd.replies()} == {200}
    assert issuer.asked(TOKEN) == 1
