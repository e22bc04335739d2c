# SPDX-License-Identifier: Apache-2.0
"""Does key-auth answer as its facts say?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.key_auth.plugin import KeyAuth
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import MemoryExchange, Scene, validated

ALICE: dict[str, Any] = {
    "id": "a1111111-1111-4111-8111-111111111111",
    "username": "alice",
    "custom_id": "42",
    "created_at": 1,
}
GUEST: dict[str, Any] = {
    "id": "a2222222-2222-4222-8222-222222222222",
    "username": "guest",
    "custom_id": None,
    "created_at": 1,
}
KEY: dict[str, Any] = {
    "id": "c1111111-1111-4111-8111-111111111111",
    "key": "secret",
    "consumer": {"id": ALICE["id"]},
    "tags": None,
}
ROWS: dict[str, Any] = {"consumers": [ALICE, GUEST], "keyauth_credentials": [KEY]}


def scene_with(**config: Any) -> Scene:
    return Scene(KeyAuth, config, rows=ROWS)


def test_known_key_passes_and_tells_the_upstream_who_it_is() -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={"apikey": "secret", "X-Anonymous-Consumer": "true"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert headers["x-consumer-id"] == ALICE["id"]
    assert headers["x-consumer-custom-id"] == "42"
    assert headers["x-consumer-username"] == "alice"
    assert headers["x-credential-identifier"] == KEY["id"]
    assert "x-anonymous-consumer" not in headers
    assert outcome.exchange.client.consumer is not None
    assert outcome.exchange.client.consumer["username"] == "alice"


def test_missing_key_is_refused_with_a_challenge() -> None:
    with scene_with() as scene:
        outcome = scene.send()
    assert outcome.status == 401
    assert outcome.headers["www-authenticate"] == "Key"
    assert outcome.json()["message"] == "No API key found in request"
    assert outcome.json()["request_id"] == outcome.exchange.id
    assert outcome.upstream is None


def test_realm_is_in_the_challenge() -> None:
    with scene_with(realm="orders") as scene:
        assert scene.send().headers["www-authenticate"] == 'Key realm="orders"'


@pytest.mark.parametrize(
    "request_", [{"headers": {"apikey": ""}}, {"target": "/?apikey="}, {"target": "/?apikey"}, {"target": "/?other=1"}]
)
def test_empty_key_is_no_key(request_: dict[str, Any]) -> None:
    with scene_with() as scene:
        assert scene.send(**request_).json()["message"] == "No API key found in request"


def test_unknown_key_is_unauthorized() -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={"apikey": "nope"})
    assert outcome.status == 401
    assert outcome.headers["www-authenticate"] == "Key"
    assert outcome.json()["message"] == "Unauthorized"


@pytest.mark.parametrize("request_", [{"headers": {"apikey": ["secret", "secret"]}}, {"target": "/?apikey=secret&apikey=secret"}])
def test_repeated_key_is_refused(request_: dict[str, Any]) -> None:
    with scene_with() as scene:
        outcome = scene.send(**request_)
    assert outcome.status == 401
    assert outcome.headers["www-authenticate"] == "Key"
    assert outcome.json()["message"] == "Duplicate API key found"


def test_header_comes_before_query() -> None:
    with scene_with() as scene:
        assert scene.send(target="/?apikey=nope", headers={"APIKEY": "secret"}).status == 200


def test_query_key_passes_unless_switched_off() -> None:
    with scene_with() as scene:
        assert scene.send(target="/?apikey=secret").status == 200
    with scene_with(key_in_query=False) as scene:
        assert scene.send(target="/?apikey=secret").status == 401
    with scene_with(key_in_header=False) as scene:
        assert scene.send(headers={"apikey": "secret"}).status == 401


def test_names_are_tried_in_order() -> None:
    with scene_with(key_names=["x-key", "apikey"]) as scene:
        assert scene.send(headers={"apikey": "secret"}).status == 200
        assert scene.send(headers={"apikey": "secret", "X-Key": "nope"}).status == 401


MULTIPART_BODY = (
    b'--b\r\nContent-Disposition: form-data; name="apikey"\r\n\r\nsecret\r\n'
    b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("content_type", "body", "rest"),
    [
        ("application/x-www-form-urlencoded", b"apikey=secret&other=1", b"other=1"),
        ("application/json; charset=utf-8", b'{"apikey": "secret", "other": 1}', b'{"other":1}'),
        (
            "multipart/form-data; boundary=b",
            MULTIPART_BODY,
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--b--\r\n',
        ),
    ],
)
def test_key_in_body_is_found_and_hidden(content_type: str, body: bytes, rest: bytes) -> None:
    with scene_with(key_in_body=True, hide_credentials=True) as scene:
        outcome = scene.send("POST", headers={"Content-Type": content_type}, body=body)
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.sent_body == rest


def test_key_in_header_that_is_no_text_is_unknown() -> None:
    with scene_with() as scene:
        assert scene.send(headers={"apikey": "\udcff"}).json()["message"] == "Unauthorized"


def test_key_in_body_that_is_no_text_is_unknown() -> None:
    with scene_with(key_in_body=True) as scene:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert scene.send("POST", headers=form, body=b"apikey=%ff\xfe").json()["message"] == "Unauthorized"


def test_body_is_not_read_without_key_in_body() -> None:
    with scene_with() as scene:
        assert KeyAuth.body_limit(scene.config) == 0
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert scene.send("POST", headers=form, body=b"apikey=secret").status == 401


@pytest.mark.parametrize("body", [b"\xff{", b"[]", b"", b"3"])
def test_unreadable_body_holds_no_key(body: bytes) -> None:
    with scene_with(key_in_body=True) as scene:
        outcome = scene.send("POST", headers={"Content-Type": "application/json"}, body=body)
    assert outcome.json()["message"] == "No API key found in request"


def test_hidden_credentials_leave_header_and_query() -> None:
    with scene_with(hide_credentials=True) as scene:
        outcome = scene.send(target="/?a=%2f&apikey=secret&b", headers={"apikey": "secret"})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("apikey") is None
    assert outcome.upstream.raw_query == "a=%2f&b"


def test_preflight_may_pass_without_key() -> None:
    with scene_with(run_on_preflight=False) as scene:
        assert scene.send("OPTIONS").status == 200
        assert scene.send("GET").status == 401
    with scene_with() as scene:
        assert scene.send("OPTIONS").status == 401


@pytest.mark.parametrize("anonymous", ["guest", GUEST["id"]])
@pytest.mark.parametrize("headers", [{}, {"apikey": "nope"}, {"apikey": ["a", "b"]}])
def test_refused_client_passes_as_the_anonymous_consumer(anonymous: str, headers: dict[str, Any]) -> None:
    with scene_with(anonymous=anonymous) as scene:
        outcome = scene.send(headers={**headers, "X-Credential-Identifier": "forged", "X-Consumer-Custom-ID": "forged"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    upstream_headers = outcome.upstream.get_headers()
    assert upstream_headers["x-consumer-id"] == GUEST["id"]
    assert upstream_headers["x-anonymous-consumer"] == "true"
    assert "x-credential-identifier" not in upstream_headers
    assert "x-consumer-custom-id" not in upstream_headers


def test_missing_anonymous_consumer_is_a_server_error() -> None:
    with scene_with(anonymous="nobody") as scene:
        outcome = scene.send()
    assert outcome.status == 500
    assert outcome.json()["message"] == "anonymous consumer nobody is configured but doesn't exist"


def test_client_authenticated_by_another_plugin_passes_where_anonymous_is_set() -> None:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": "another plugin's"})

    with Scene(KeyAuth, {"anonymous": "guest"}, rows=ROWS, prepare_exchange=authenticate) as scene:
        outcome = scene.send()
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None


def test_key_of_a_consumer_that_cannot_be_loaded_is_a_server_error() -> None:
    with Scene(KeyAuth, {}, rows={"keyauth_credentials": [KEY]}) as scene:
        outcome = scene.send(headers={"apikey": "secret"})
    assert outcome.status == 500
    assert outcome.json()["message"] == "An unexpected error occurred"


def test_known_and_unknown_keys_are_asked_for_once() -> None:
    with scene_with() as scene:
        scene.send_together([{"headers": {"apikey": "secret"}}] * 5 + [{"headers": {"apikey": "nope"}}] * 5)
        scene.send(headers={"apikey": "secret"})
        scene.send(headers={"apikey": "nope"})
        assert sorted(arguments["value"] for _, arguments in scene.host.calls) == ["nope", "secret"]


def test_changes_reach_the_cache() -> None:
    with scene_with() as scene:
        assert scene.send(headers={"apikey": "secret"}).status == 200
        scene.host.change("consumers", ALICE["id"], username="alicia")
        outcome = scene.send(headers={"apikey": "secret"})
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Consumer-Username") == "alicia"
        scene.host.remove("keyauth_credentials", KEY["id"])
        assert scene.send(headers={"apikey": "secret"}).status == 401


def test_expired_key_is_as_unknown() -> None:
    with Scene(KeyAuth, {}, rows={"consumers": [ALICE]}) as scene:
        expiring = {**KEY, "_expires_at_ms": scene.clock.now_ms() + 10_000}
        scene.host.rows["keyauth_credentials"] = [expiring]
        assert scene.send(headers={"apikey": "secret"}).status == 200
        scene.clock.turn(seconds=11)
        assert scene.send(headers={"apikey": "secret"}).json()["message"] == "Unauthorized"


def test_bad_header_name_is_refused() -> None:
    with pytest.raises(SchemaViolation):
        validated(KeyAuth, {"key_names": ["a b"]})


def test_error_body_follows_accept() -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={"Accept": "text/plain"})
    assert outcome.body == f"No API key found in request\nrequest_id: {outcome.exchange.id}\n".encode()
