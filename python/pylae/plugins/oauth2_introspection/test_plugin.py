# SPDX-License-Identifier: Apache-2.0
"""What may be configured, and what is decided without asking anybody?"""

from __future__ import annotations

from typing import Any

import pytest

from pylae.plugins.oauth2_introspection.plugin import Oauth2Introspection
from pylae.plugins.oauth2_introspection.settings import header_text
from pylae.sdk import SchemaViolation
from pylae.sdk.auth import SystemUnavailable
from pylae.sdk.testing import MemoryExchange, Scene, validated

NOBODY = {"introspection_url": "http://127.0.0.1:9/", "authorization_value": "x"}


def test_server_and_authorization_are_required() -> None:
    with pytest.raises(SchemaViolation) as refused:
        validated(Oauth2Introspection, {})
    assert set((refused.value.fields or {})["config"]) == {"introspection_url", "authorization_value"}


def test_preflight_may_pass() -> None:
    with Scene(Oauth2Introspection, {**NOBODY, "run_on_preflight": False}) as scene:
        assert scene.send(method="OPTIONS").status == 200
        assert scene.send().status == 401


def test_token_in_query_and_body_must_be_one_text() -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    with Scene(Oauth2Introspection, NOBODY) as scene:
        for sent in (
            {"target": "/?access_token=a&access_token=b"},
            {"target": "/?access_token"},
            {"target": "/?access_token=%ff%00"},
            {"method": "POST", "headers": form, "body": b"access_token=a&access_token=b"},
            {"method": "POST", "headers": {"content-type": "application/json"}, "body": b'{"access_token": {"a": 1}}'},
        ):
            outcome = scene.send(**sent)
            assert (outcome.status, outcome.json()["error"]) == (401, "invalid_token"), sent


def test_nobody_is_asked_of_other_schemes() -> None:
    with Scene(Oauth2Introspection, NOBODY) as scene:
        for value in ("Basic YTpi", "Bearer", "", "Bearertoken"):
            assert scene.send(headers={"authorization": value}).status == 401


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"authorization": ["Bearer a", "Bearer a"]}},
        {"headers": {"authorization": "Bearer a"}, "target": "/?access_token=b"},
        {"headers": {"authorization": "Bearer a"}, "target": "/?%61ccess_token=b"},
        {"headers": {"authorization": "Bearer " + "a" * 20_000}},
        {"headers": {"authorization": "Bearer \udcff"}},
        {"target": "/?access_token="},
    ],
)
def test_tokens_that_cannot_be_meant_are_refused(sent: dict[str, Any]) -> None:
    with Scene(Oauth2Introspection, NOBODY) as scene:
        outcome = scene.send(**sent)
        assert (outcome.status, outcome.json()["error"]) == (401, "invalid_token")
        assert str(outcome.headers["www-authenticate"]).startswith('Bearer realm="service", error="invalid_token"')


def test_same_token_in_two_places_is_one_and_a_server_that_is_down_is_named() -> None:
    with Scene(Oauth2Introspection, NOBODY) as scene, pytest.raises(SystemUnavailable, match="connection refused") as failed:
        scene.send(headers={"authorization": "Bearer a"}, target="/?access_token=a")
    assert failed.value.system == "introspection endpoint http://127.0.0.1:9/"


def test_whoever_was_authenticated_keeps_what_the_upstream_is_told() -> None:
    consumer = {"id": "a1111111-1111-4111-8111-111111111111", "username": "alice", "created_at": 1}

    def authenticated(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(consumer, {"id": "key"})
        exchange.service.request.set_header("X-Credential-Identifier", "key")

    with Scene(Oauth2Introspection, {**NOBODY, "anonymous": "guest"}, prepare_exchange=authenticated) as scene:
        outcome = scene.send()
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Credential-Identifier") == "key"


def test_anonymous_client_tells_the_upstream_nothing_of_itself() -> None:
    guest = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}
    config = {**NOBODY, "anonymous": "guest", "custom_claims_forward": ["https://example.com/groups"]}
    with Scene(Oauth2Introspection, config, rows={"consumers": [guest]}) as scene:
        claimed = {"X-Credential-Scope": "admin", "X-Credential-https-example-com-groups": "admin"}
        outcome = scene.send(headers=claimed)
        assert outcome.upstream is not None
        headers = outcome.upstream.get_headers()
        assert headers["x-anonymous-consumer"] == "true"
        assert not [name for name in headers if name.startswith("x-credential-")]


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (None, None),
        ("a", "a"),
        (["a", "b"], "a b"),
        (7, "7"),
        (True, "true"),
        ({"a": [1]}, '{"a":[1]}'),
        ("a\r\nb", None),
        ("\ud800", None),
        ("a" * 9_000, None),
    ],
)
def test_claim_as_a_header_says_it(claim: Any, text: str | None) -> None:
    assert header_text(claim) == text
