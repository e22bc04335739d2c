# SPDX-License-Identifier: Apache-2.0
"""Does openid-connect get along with Keycloak: discovery, signed tokens, keys that turn over during traffic, introspection?"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.servers.keycloak import GATEWAY, GATEWAY_SECRET, PASSWORD, Keycloak

pytestmark = pytest.mark.nightly

WORKERS = 2


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    with Keycloak() as server:
        yield server


@pytest.fixture
def protected(blueprints: Blueprints, echo: Origin, keycloak: Keycloak) -> Any:
    """Makes a path that asks Keycloak, by what is said."""

    def make(**config: Any) -> str:
        known = {"issuer": keycloak.issuer, "client_id": [GATEWAY], "client_secret": [GATEWAY_SECRET], "auth_methods": ["bearer"]}
        return blueprints.plugged(echo, "openid-connect", **{**known, **config})

    return make


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def test_signed_token_opens_by_roles_and_groups(gateway: Gateway, echo: Origin, keycloak: Keycloak, protected: Any) -> None:
    path = protected(
        roles_claim=["realm_access", "roles"],
        roles_required=["buyer"],
        authenticated_groups_claim=["groups"],
        credential_claim=["preferred_username"],
        upstream_headers_claims=["email"],
        upstream_headers_names=["X-Email"],
    )
    token = keycloak.user_token()["access_token"]
    for _ in range(6):
        assert gateway.get(path, bearer(token)).status == 200
        assert echo.last.header("X-Credential-Identifier") == "alice"
        assert echo.last.header("X-Authenticated-Groups") == "dev"
        assert echo.last.header("X-Email") == "alice@example.com"
    of_client = keycloak.token(grant_type="client_credentials")["access_token"]
    assert gateway.get(path, bearer(of_client)).status == 403
    of_another_realm = keycloak.token(
        "master", grant_type="password", client_id="admin-cli", client_secret="", username="admin", password="admin"
    )
    assert gateway.get(path, bearer(of_another_realm["access_token"])).status == 401


def test_introspection_knows_of_a_logout(gateway: Gateway, keycloak: Keycloak, protected: Any) -> None:
    asking = protected(auth_methods=["bearer", "introspection"], introspect_jwt_tokens=True, cache_introspection=False)
    remembering = protected()
    tokens = keycloak.user_token()
    for path in (asking, remembering):
        assert gateway.get(path, bearer(tokens["access_token"])).status == 200
    keycloak.log_out(tokens["refresh_token"])
    assert gateway.get(asking, bearer(tokens["access_token"])).status == 401
    # A signed token holds until its end where nobody asks.
    assert gateway.get(remembering, bearer(tokens["access_token"])).status == 200


def test_password_client_credentials_and_userinfo(gateway: Gateway, echo: Origin, keycloak: Keycloak, protected: Any) -> None:
    told: dict[str, Any] = {"upstream_headers_claims": ["preferred_username"], "upstream_headers_names": ["X-Name"]}
    path = protected(auth_methods=["password", "client_credentials"], client_auth=["client_secret_post"], **told)
    for pair, name in ((f"alice:{PASSWORD}", "alice"), (f"{GATEWAY}:{GATEWAY_SECRET}", f"service-account-{GATEWAY}")):
        line = "Authorization: Basic " + base64.b64encode(pair.encode()).decode()
        assert {gateway.get(path, line).status for _ in range(6)} == {200}
        assert echo.last.header("X-Name") == name
    wrong = "Authorization: Basic " + base64.b64encode(b"alice:guessed").decode()
    assert gateway.get(path, wrong).status == 401
    asking = protected(auth_methods=["userinfo"], **told)
    assert gateway.get(asking, bearer(keycloak.user_token()["access_token"])).status == 200
    assert echo.last.header("X-Name") == "alice"
    assert gateway.get(asking, bearer("unknown")).status == 401


def test_keys_turn_over_during_traffic(gateway: Gateway, keycloak: Keycloak, protected: Any) -> None:
    path = protected(rediscovery_lifetime=0)
    old = keycloak.user_token()["access_token"]
    statuses: list[int] = []
    with ThreadPoolExecutor(4) as pool:

        def traffic(token: str) -> None:
            statuses.extend(gateway.get(path, bearer(token)).status for _ in range(100))

        before = [pool.submit(traffic, old) for _ in range(2)]
        keycloak.rotate()
        new = keycloak.user_token()["access_token"]
        after = [pool.submit(traffic, new) for _ in range(2)]
        for one in (*before, *after):
            one.result()
    assert set(statuses) == {200}
    keycloak.rotate(drops_old=True)
    newest = keycloak.user_token()["access_token"]
    assert {gateway.get(path, bearer(newest)).status for _ in range(8)} == {200}
    assert {gateway.get(path, bearer(old)).status for _ in range(8)} == {401}
