# SPDX-License-Identifier: Apache-2.0
"""Does hmac-auth answer as its facts say?"""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from typing import Any

import pytest

from pylae.plugins.hmac_auth.dates import parse_date
from pylae.plugins.hmac_auth.plugin import MAX_BODY_BYTES, NO_DATE, NO_MATCH, NOT_VERIFIABLE, HmacAuth
from pylae.plugins.hmac_auth.signatures import HASHES, Secret, parse_signature
from pylae.sdk import SchemaViolation
from pylae.sdk.auth import facts_of
from pylae.sdk.testing import START_MS, MemoryExchange, Outcome, Scene, validated

NOW_S = START_MS // 1000
NOW = formatdate(NOW_S, usegmt=True)
ALICE: dict[str, Any] = {
    "id": "a1111111-1111-4111-8111-111111111111",
    "username": "alice",
    "custom_id": "42",
    "created_at": 1,
}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
SECRET = "secret"
CREDENTIAL: dict[str, Any] = {
    "id": "c1111111-1111-4111-8111-111111111111",
    "username": "alice-app",
    "secret": SECRET,
    "consumer": {"id": ALICE["id"]},
    "tags": None,
}


def scene_with(**config: Any) -> Scene:
    return Scene(HmacAuth, config, rows={"consumers": [ALICE, GUEST], "hmacauth_credentials": [CREDENTIAL]})


def authorization(text: str, names: str = "date", **changes: str) -> str:
    """What stands in the field when this text is signed."""
    algorithm = changes.get("algorithm", "hmac-sha256")
    made = hmac.digest(changes.get("secret", SECRET).encode(), text.encode("latin-1"), algorithm.removeprefix("hmac-"))
    signature = base64.b64encode(made).decode()
    username = changes.get("username", "alice-app")
    return f'hmac username="{username}", algorithm="{algorithm}", headers="{names}", signature="{signature}"'


def signed(text: str = f"date: {NOW}", names: str = "date", **changes: str) -> dict[str, Any]:
    return {"Date": NOW, "Authorization": authorization(text, names, **changes)}


def assert_refused(outcome: Outcome, message: str, challenge: str = "hmac") -> None:
    assert (outcome.status, outcome.json()["message"]) == (401, message)
    assert outcome.json()["request_id"] == outcome.exchange.id
    assert outcome.headers["www-authenticate"] == challenge
    assert outcome.upstream is None


def test_right_signature_passes_and_tells_the_upstream_who_it_is() -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={**signed(), "X-Anonymous-Consumer": "true"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert headers["x-consumer-id"] == ALICE["id"]
    assert headers["x-consumer-custom-id"] == "42"
    assert headers["x-consumer-username"] == "alice"
    assert headers["x-credential-identifier"] == "alice-app"
    assert "x-anonymous-consumer" not in headers
    assert str(headers["authorization"]).startswith("hmac ")
    assert facts_of(outcome.exchange).methods == ["hmac-auth"]


@pytest.mark.parametrize("algorithm", ["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"])
def test_every_algorithm_passes(algorithm: str) -> None:
    with scene_with() as scene:
        assert scene.send(headers=signed(algorithm=algorithm)).status == 200
    with scene_with(algorithms=["hmac-sha256"]) as scene:
        outcome = scene.send(headers=signed(algorithm=algorithm))
        assert outcome.status == (200 if algorithm == "hmac-sha256" else 401)


def test_missing_signature_is_refused_with_a_challenge() -> None:
    with scene_with() as scene:
        assert_refused(scene.send(headers={"Date": NOW}), "Unauthorized")
    with scene_with(realm="orders") as scene:
        assert_refused(scene.send(), "Unauthorized", 'hmac realm="orders"')


def test_request_target_and_request_line_are_signed() -> None:
    names = "date @request-target"
    with scene_with() as scene:
        headers = signed(f"date: {NOW}\n@request-target: post /a%2fb?c=d", names)
        assert scene.send("POST", "/a%2fb?c=d", headers=headers).status == 200
        assert_refused(scene.send("POST", "/a%2fb?c=e", headers=headers), NO_MATCH)
        assert_refused(scene.send("GET", "/a%2fb?c=d", headers=headers), NO_MATCH)
        headers = signed(f"date: {NOW}\nGET /a?b HTTP/1.1", "date request-line")
        assert scene.send("GET", "/a?b", headers=headers).status == 200
        assert_refused(scene.send("GET", "/a", headers=headers), NO_MATCH)


def test_fields_are_signed_as_they_are_named() -> None:
    with scene_with() as scene:
        headers = signed(f"Date: {NOW}\nx-missing:\nX-One: 1", "Date x-missing X-One")
        assert scene.send(headers={**headers, "x-one": "1"}).status == 200
        assert_refused(scene.send(headers={**headers, "x-one": "2"}), NO_MATCH)


def test_repeated_field_is_signed_with_all_its_values() -> None:
    with scene_with() as scene:
        assert scene.send(headers={**signed(f"date: {NOW}\nx: 1, 2", "date x"), "x": ["1", "2"]}).status == 200
        assert_refused(scene.send(headers={**signed(f"date: {NOW}\nx: 1", "date x"), "x": ["1", "2"]}), NO_MATCH)


@pytest.mark.parametrize("scheme", ["hmac", "Hmac", "HMAC"])
def test_proxy_authorization_comes_first(scheme: str) -> None:
    right = authorization(f"date: {NOW}").replace("hmac ", f"{scheme} ", 1)
    with scene_with() as scene:
        assert scene.send(headers={"Date": NOW, "Proxy-Authorization": right, "Authorization": "Basic YTpi"}).status == 200
        assert scene.send(headers={"Date": NOW, "Proxy-Authorization": "Basic YTpi", "Authorization": right}).status == 200
        wrong = authorization(f"date: {NOW}", secret="wrong")
        assert_refused(scene.send(headers={"Date": NOW, "Proxy-Authorization": wrong, "Authorization": right}), NO_MATCH)


def test_hidden_credentials_do_not_go_upstream() -> None:
    with scene_with(hide_credentials=True) as scene:
        outcome = scene.send(headers=signed())
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("authorization") is None
        right = {"Date": NOW, "Proxy-Authorization": authorization(f"date: {NOW}"), "Authorization": "Basic YTpi"}
        outcome = scene.send(headers=right)
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("proxy-authorization") is None
        assert outcome.upstream.get_header("authorization") == "Basic YTpi"


@pytest.mark.parametrize(
    "value",
    [
        "Basic YTpi",
        "hmac",
        "",
        'hmac username="alice-app"',
        'hmac username="alice-app", algorithm="hmac-sha256", headers="date"',
        'hmac username="alice-app", algorithm="hmac-sha256", headers="", signature="eA=="',
        'hmac username="alice-app", algorithm="hmac-sha256", headers=" ", signature="eA=="',
        'hmac username="a", username="alice-app", algorithm="hmac-sha256", headers="date", signature="eA=="',
        'hmac username="alice-app", algorithm="hmac-md5", headers="date", signature="eA=="',
        'hmac username="alice-app", algorithm="none", headers="date", signature="eA=="',
        'hmac username="bob", algorithm="hmac-sha256", headers="date", signature="eA=="',
        'hmac username="\udcff", algorithm="hmac-sha256", headers="date", signature="eA=="',
        f'hmac username="alice-app", algorithm="hmac-sha256", headers="{"date " * 65}", signature="eA=="',
        "hmac " + 'username="' * 20_000,
    ],
)
def test_what_is_no_signature_cannot_be_verified(value: str) -> None:
    with scene_with() as scene:
        assert_refused(scene.send(headers={"Date": NOW, "Authorization": value}), NOT_VERIFIABLE)


@pytest.mark.parametrize("signature", ["eA==", "x", "\udcff", "=", "ä"])
def test_wrong_signature_does_not_match(signature: str) -> None:
    value = f'hmac username="alice-app", algorithm="hmac-sha256", headers="date", signature="{signature}"'
    with scene_with() as scene:
        assert_refused(scene.send(headers={"Date": NOW, "Authorization": value}), NO_MATCH)


def test_parameters_may_come_in_any_order() -> None:
    usual = authorization("x")
    reordered = "hmac " + ",".join(reversed(usual.removeprefix("hmac ").split(", ")))
    assert parse_signature(reordered) == parse_signature(usual)
    assert parse_signature(usual) is not None


@pytest.mark.parametrize("offset_s", [-301, 301])
def test_date_off_by_more_than_the_skew_is_refused(offset_s: int) -> None:
    date = formatdate(NOW_S + offset_s, usegmt=True)
    with scene_with() as scene:
        headers = {"Date": date, "Authorization": authorization(f"date: {date}")}
        assert_refused(scene.send(headers=headers), NO_DATE)
        scene.clock.turn(seconds=offset_s // 301)
        assert scene.send(headers=headers).status == 200


@pytest.mark.parametrize("date", [None, "", "yesterday", "2026-01-01T00:00:00Z", ["a", "b"], NOW.replace("Jan", "Jän")])
def test_request_without_a_date_is_refused(date: Any) -> None:
    headers = {"Authorization": authorization("@request-target: get /", "@request-target")}
    with scene_with() as scene:
        assert_refused(scene.send(headers=headers if date is None else {**headers, "Date": date}), NO_DATE)


def test_x_date_stands_in_for_date() -> None:
    old = formatdate(NOW_S - 3600, usegmt=True)
    with scene_with() as scene:
        headers = {"X-Date": NOW, "Date": old, "Authorization": authorization(f"x-date: {NOW}", "x-date")}
        assert scene.send(headers=headers).status == 200
        both = {"X-Date": old, "Date": NOW, "Authorization": authorization(f"x-date: {old}\ndate: {NOW}", "x-date date")}
        assert scene.send(headers=both).status == 200


@pytest.mark.parametrize("text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_every_form_of_an_http_date_is_read(text: str) -> None:
    assert parse_date(text) == 784_111_777


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT"]
)
def test_what_is_no_date_is_not_read(text: str) -> None:
    assert parse_date(text) is None


def test_enforced_headers_have_to_be_signed() -> None:
    with scene_with(enforce_headers=["Date", "@request-target"]) as scene:
        assert_refused(scene.send(headers=signed()), NOT_VERIFIABLE)
        headers = signed(f"date: {NOW}\n@request-target: get /", "date @request-target")
        assert scene.send(headers=headers).status == 200


def digest_of(body: bytes) -> str:
    return "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()


def with_digest(digest: str) -> dict[str, Any]:
    return {**signed(f"date: {NOW}\ndigest: {digest}", "date digest"), "Digest": digest}


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 300_000])
def test_body_must_be_the_one_of_the_digest(body: bytes) -> None:
    with scene_with(validate_request_body=True) as scene:
        assert scene.send("POST", headers=with_digest(digest_of(body)), body=body).status == 200
        assert scene.send("POST", headers=with_digest(digest_of(body).replace("SHA", "sha")), body=body).status == 200
        assert_refused(scene.send("POST", headers=with_digest(digest_of(body)), body=body + b"."), NO_MATCH)


@pytest.mark.parametrize("digest", ["", "x", "MD5=eA==", "SHA-256=", "SHA-256=\u00e4"])
def test_digest_of_another_kind_does_not_match(digest: str) -> None:
    with scene_with(validate_request_body=True) as scene:
        assert_refused(scene.send("POST", headers=with_digest(digest), body=b"{}"), NO_MATCH)


def test_without_digest_only_an_empty_body_passes() -> None:
    with scene_with(validate_request_body=True) as scene:
        assert scene.send("POST", headers=signed()).status == 200
        assert_refused(scene.send("POST", headers=signed(), body=b"{}"), NO_MATCH)
    with scene_with() as scene:
        assert HmacAuth.body_limit(scene.config) == 0
        assert scene.send("POST", headers={**signed(), "Digest": "wrong"}, body=b"{}").status == 200


def test_body_that_cannot_be_held_is_too_large() -> None:
    with scene_with(validate_request_body=True) as scene:
        outcome = scene.send("POST", headers=signed(), body=b"x" * (MAX_BODY_BYTES + 1))
    assert (outcome.status, outcome.json()["message"]) == (413, "Payload too large")


@pytest.mark.parametrize("anonymous", ["guest", GUEST["id"]])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "hmac"}, signed(secret="wrong"), signed(username="bob")])
def test_refused_client_passes_as_the_anonymous_consumer(anonymous: str, headers: dict[str, Any]) -> None:
    with scene_with(anonymous=anonymous) as scene:
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

    with Scene(HmacAuth, {"anonymous": "guest"}, rows={"consumers": [GUEST]}, prepare_exchange=authenticate) as scene:
        outcome = scene.send()
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None


def test_credential_of_a_consumer_that_cannot_be_loaded_is_a_server_error() -> None:
    with Scene(HmacAuth, {}, rows={"hmacauth_credentials": [CREDENTIAL]}) as scene:
        outcome = scene.send(headers=signed())
    assert outcome.status == 500
    assert outcome.json()["message"] == "An unexpected error occurred"


def test_changes_reach_the_cache() -> None:
    with scene_with() as scene:
        assert scene.send(headers=signed()).status == 200
        scene.host.change("hmacauth_credentials", CREDENTIAL["id"], secret="changed")
        assert_refused(scene.send(headers=signed()), NO_MATCH)
        assert scene.send(headers=signed(secret="changed")).status == 200
        scene.host.remove("hmacauth_credentials", CREDENTIAL["id"])
        assert_refused(scene.send(headers=signed(secret="changed")), NOT_VERIFIABLE)


def test_skew_is_more_than_nothing() -> None:
    with pytest.raises(SchemaViolation):
        validated(HmacAuth, {"clock_skew": 0})


def test_nothing_of_a_signature_is_logged() -> None:
    with scene_with() as scene:
        assert scene.send(headers=signed(secret="wrong")).lines == []


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129, 1_000])
@pytest.mark.parametrize("algorithm", HASHES)
def test_secret_verifies_what_hmac_signs(algorithm: str, length: int) -> None:
    secret = bytes(range(256)) * 4
    kept = Secret(secret[:length])
    for text in ("", "date: now", "x" * 200, "\udcff\xe4"):
        digest = hmac.digest(secret[:length], text.encode("utf-8", "surrogateescape"), HASHES[algorithm])
        signature = base64.b64encode(digest).decode()
        assert kept.has_signed(text, signature, algorithm)
        assert kept.has_signed(text, signature, algorithm)
        assert not kept.has_signed(f"{text}.", signature, algorithm)
        assert not kept.has_signed(text, signature[4:], algorithm)
