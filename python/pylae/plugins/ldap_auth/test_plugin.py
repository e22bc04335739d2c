# SPDX-License-Identifier: Apache-2.0
"""What does ldap-auth refuse without asking any server?"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pylae.plugins.ldap_auth.plugin import LdapAuth
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import MemoryExchange, Scene, validated

CONFIG: dict[str, Any] = {"ldap_host": "127.0.0.1", "ldap_port": 1, "base_dn": "dc=example,dc=com", "attribute": "uid"}
GUEST: dict[str, Any] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "guest", "custom_id": None, "created_at": 1}


def scene_with(**config: Any) -> Scene:
    return Scene(LdapAuth, {**CONFIG, **config}, rows={"consumers": [GUEST]})


def encoded(credentials: bytes) -> str:
    return base64.b64encode(credentials).decode()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "ldap",
        "ldap ",
        "ldap ====",
        "ldap \udcff\udcfe",
        "basic " + encoded(b"alice:secret"),
        "ldap " + encoded(b"alice"),
        "ldap " + encoded(b"alice:"),
        "ldap " + encoded(b":secret"),
        "ldap " + encoded(b"al\0ice:secret"),
        "ldap " + encoded(b"alice:\0"),
        "ldap " + encoded(b"alice:sec\0ret"),
        "ldap " + encoded(b"\xff\xfe:secret"),
        "ldap " + encoded(b"alice\r\nX-Admin: 1:secret"),
        "ldap " + encoded(b" alice:secret"),
        "ldap " + encoded(b"alice\xc2\xa0:secret"),
        "ldap " + encoded(b"a" * 1_025 + b":secret"),
        "ldap " + encoded(b"alice:" + b"s" * 1_025),
    ],
)
def test_what_cannot_be_credentials_is_refused_unasked(value: str | None) -> None:
    with scene_with() as scene:
        outcome = scene.send(headers={} if value is None else {"Authorization": value})
    assert outcome.status == 401
    assert outcome.json()["message"] == "Unauthorized"
    assert outcome.headers["www-authenticate"] == "LDAP"
    assert outcome.upstream is None


def test_a_repeated_header_holds_no_credentials() -> None:
    with scene_with() as scene:
        assert scene.send(headers={"Authorization": ["ldap " + encoded(b"alice:secret")] * 2}).status == 401


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "LDAP"),
        ({"header_type": "LdAp"}, "LDAP"),
        ({"header_type": "Basic"}, "Basic"),
        ({"realm": "staff"}, 'LDAP realm="staff"'),
        ({"header_type": "basic", "realm": "staff"}, 'basic realm="staff"'),
    ],
)
def test_the_challenge_names_scheme_and_realm(config: dict[str, Any], said: str) -> None:
    with scene_with(**config) as scene:
        assert scene.send().headers["www-authenticate"] == said


@pytest.mark.parametrize("anonymous", ["guest", GUEST["id"]])
def test_refused_client_passes_as_the_anonymous_consumer_without_its_credentials(anonymous: str) -> None:
    with scene_with(anonymous=anonymous, hide_credentials=True) as scene:
        outcome = scene.send(headers={"Authorization": "ldap " + encoded(b"alice:"), "X-Credential-Identifier": "root"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert headers["x-anonymous-consumer"] == "true"
    assert headers["x-consumer-username"] == "guest"
    assert not {"authorization", "x-credential-identifier"} & headers.keys()


def test_a_header_of_another_scheme_is_left_to_the_upstream() -> None:
    with scene_with(anonymous="guest", hide_credentials=True) as scene:
        outcome = scene.send(headers={"Authorization": "Bearer token"})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("Authorization") == "Bearer token"


def test_client_authenticated_by_another_plugin_passes_where_anonymous_is_set() -> None:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(GUEST, {"id": "another plugin's"})

    with Scene(LdapAuth, {**CONFIG, "anonymous": "guest"}, rows={}, prepare_exchange=authenticate) as scene:
        assert scene.send().status == 200


def test_tls_is_spoken_in_one_way() -> None:
    with pytest.raises(SchemaViolation) as caught:
        validated(LdapAuth, {**CONFIG, "ldaps": True, "start_tls": True})
    assert "'ldaps' and 'start_tls' cannot be enabled simultaneously" in str(caught.value)
