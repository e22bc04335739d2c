# SPDX-License-Identifier: Apache-2.0
"""What may be configured, and what is decided without asking anybody?"""

from __future__ import annotations

import pytest

from pylae.plugins.oauth2_introspection.plugin import Oauth2Introspection
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Scene, validated

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
