# SPDX-License-Identifier: Apache-2.0
"""Is a code exchanged by none but who asked for it, where PKCE is used or has to be?"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pylae.plugins.oauth2.pkce import made_from
from pylae.plugins.oauth2.test_plugin import (
    SECRET_FIELD,
    VERIFIER,
    a_code,
    ask_token,
    assert_refused,
    authorize,
    scene_with,
    sent_back,
)


@pytest.mark.parametrize(
    ("setting", "client", "is_required"),
    [
        *itertools.product(["none"], ["app-1", "app-4"], [False]),
        ("lax", "app-1", False),
        ("lax", "app-4", True),
        *itertools.product(["strict"], ["app-1", "app-4"], [True]),
    ],
)
def test_who_must_use_pkce(setting: str, client: str, *, is_required: bool) -> None:
    with scene_with(pkce=setting) as scene:
        said = sent_back(authorize(scene, client_id=client))
        if is_required:
            kind = "public" if client == "app-4" else "confidential"
            assert said["error_description"] == f"code_challenge is required for {kind} clients"
        secret = None if client == "app-4" else "secret-1"
        mine = {"client_id": client, SECRET_FIELD: secret}
        if not is_required:
            assert ask_token(scene, "authorization_code", code=said["code"], **mine).status == 200
        challenge = {"code_challenge": made_from(VERIFIER), "code_challenge_method": "S256"}
        code = a_code(scene, client_id=client, **challenge)
        outcome = ask_token(scene, "authorization_code", code=code, code_verifier=VERIFIER, **mine)
        assert outcome.status == 200, outcome.body


@pytest.mark.parametrize(
    ("fields", "description"),
    [
        ({"code_challenge_method": "S256"}, "code_challenge is required when code_method is present"),
        ({"code_challenge": "x"}, "code_challenge_method is not supported, must be S256"),
        (
            {"code_challenge": "x", "code_challenge_method": "plain"},
            "code_challenge_method is not supported, must be S256",
        ),
    ],
)
def test_challenge_that_does_not_protect_is_refused(fields: dict[str, str], description: str) -> None:
    with scene_with() as scene:
        assert sent_back(authorize(scene, **fields)) == {"error": "invalid_request", "error_description": description}


@pytest.mark.parametrize(
    ("verifier", "error", "description"),
    [
        (None, "invalid_request", "code_verifier is required for PKCE authorization requests"),
        ("", "invalid_request", "code_verifier is required for PKCE authorization requests"),
        ([VERIFIER, VERIFIER], "invalid_request", "code_verifier is not a string"),
        ("v" * 42, "invalid_request", "code_verifier must be between 43 and 128 characters"),
        ("v" * 129, "invalid_request", "code_verifier must be between 43 and 128 characters"),
        ("w" * 43, "invalid_grant", "Invalid code"),
        (made_from(VERIFIER), "invalid_grant", "Invalid code"),
    ],
)
def test_wrong_verifier_is_refused_and_the_code_stays(verifier: Any, error: str, description: str) -> None:
    with scene_with(pkce="none") as scene:
        code = a_code(scene, code_challenge=made_from(VERIFIER), code_challenge_method="S256")
        assert_refused(ask_token(scene, "authorization_code", code=code, code_verifier=verifier), error, description)
        assert ask_token(scene, "authorization_code", code=code, code_verifier=VERIFIER).status == 200


def test_verifier_for_a_code_without_challenge_is_refused() -> None:
    with scene_with(pkce="none") as scene:
        outcome = ask_token(scene, "authorization_code", code=a_code(scene), code_verifier=VERIFIER)
        assert_refused(outcome, "invalid_grant", "Invalid code")


def test_public_client_shows_no_secret_and_is_no_consumer_by_its_id_alone() -> None:
    with scene_with(pkce="none") as scene:
        outcome = ask_token(scene, "authorization_code", client_id="app-4", code="x", **{SECRET_FIELD: "secret-4"})
        assert_refused(outcome, "invalid_request", "client_secret is disallowed for public clients")
        outcome = ask_token(scene, "client_credentials", client_id="app-4", **{SECRET_FIELD: None})
        assert_refused(outcome, "unauthorized_client", "client_credentials is disallowed for public clients")
