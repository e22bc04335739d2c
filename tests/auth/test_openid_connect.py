# SPDX-License-Identifier: Apache-2.0
"""Does a real OpenID provider's word count, and only as far as it goes?"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.auth.keys import private_key
from tests.support.blueprints import Blueprints, unique
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Reply
from tests.support.servers.oidc_provider import API, GATEWAY, GATEWAY_SECRET, SERVICE, SERVICE_SECRET, OidcProvider


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider() as server:
        yield server


@pytest.fixture
def protected(blueprints: Blueprints, echo: Origin, provider: OidcProvider) -> Any:
    """Makes a path that asks the provider, by what is said."""

    def make(**config: Any) -> str:
        return blueprints.plugged(
            echo,
            "openid-connect",
            issuer=provider.issuer,
            client_id=[GATEWAY],
            client_secret=[GATEWAY_SECRET],
            **{"auth_methods": ["bearer"], **config},
        )

    return make


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def basic(name: str, secret: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def challenge_of(reply: Reply) -> str:
    return reply.header("WWW-Authenticate") or ""


def test_signed_token_passes_and_the_upstream_is_told(
    gateway: Gateway, echo: Origin, provider: OidcProvider, protected: Any
) -> None:
    path = protected(
        upstream_headers_claims=["sub", "groups"],
        upstream_headers_names=["X-Sub", "X-Groups"],
        credential_claim=["sub"],
        authenticated_groups_claim=["groups"],
    )
    token = provider.user_token("alice", "openid", resource=API)["access_token"]
    for _ in range(3):
        assert gateway.get(path, bearer(token), "X-Sub: forged", "X-Authenticated-Groups: forged").status == 200
        assert echo.last.header("X-Sub") == "alice"
        assert echo.last.header("X-Credential-Identifier") == "alice"
        assert echo.last.header("X-Authenticated-Groups") == "dev, ops"
        assert base64.b64decode(echo.last.header("X-Groups") or "") == b'["dev","ops"]'
        assert echo.last.header("Authorization") == f"Bearer {token}"


def test_nobody_without_a_token(gateway: Gateway, provider: OidcProvider, protected: Any) -> None:
    path = protected()
    reply = gateway.get(path)
    assert (reply.status, challenge_of(reply)) == (401, f'Bearer realm="127.0.0.1:{provider.port}"')
    assert '"message":"Unauthorized"' in reply.text.replace(" ", "")
    reply = gateway.get(path, bearer("no-token-at-all"))
    assert reply.status == 401
    assert 'error="invalid_token"' in challenge_of(reply)


def test_consumer_by_claim(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, provider: OidcProvider, protected: Any
) -> None:
    name = unique("user")
    consumer = blueprints.admin.post("/consumers", {"username": name})
    path = protected(consumer_claim=["sub"])
    token = provider.user_token(name, "openid", resource=API)["access_token"]
    for _ in range(3):
        assert gateway.get(path, bearer(token)).status == 200
        assert echo.last.header("X-Consumer-ID") == consumer["id"]
    stranger = provider.user_token("stranger", "openid", resource=API)["access_token"]
    refused = gateway.get(path, bearer(stranger))
    assert (refused.status, "Forbidden" in refused.text) == (403, True)
    # Remembered or not, it goes with the Consumer.
    blueprints.admin.delete(f"/consumers/{consumer['id']}")
    gateway.settle()
    assert gateway.get(path, bearer(token)).status == 403


@pytest.mark.parametrize(
    ("required", "status"),
    [
        ({"scopes_required": ["read"]}, 200),
        ({"scopes_required": ["read write"]}, 403),
        ({"scopes_required": ["admin", "read"]}, 200),
        ({"audience_required": [API]}, 200),
        ({"audience_required": ["another"]}, 403),
        ({"roles_claim": ["realm_access", "roles"], "roles_required": ["admin"]}, 200),
        ({"roles_claim": ["realm_access", "roles"], "roles_required": ["admin nobody"]}, 403),
        ({"groups_required": ["ops"]}, 200),
        ({"groups_required": ["nobody"]}, 403),
    ],
)
def test_requirements(gateway: Gateway, provider: OidcProvider, protected: Any, required: dict[str, Any], status: int) -> None:
    token = provider.user_token("alice", "openid read", resource=API)["access_token"]
    reply = gateway.get(protected(**required), bearer(token))
    assert reply.status == status
    if status == 403:
        assert 'error="insufficient_scope"' in challenge_of(reply)


def test_keys_turn_over_during_traffic(gateway: Gateway, provider: OidcProvider, protected: Any) -> None:
    path = protected(rediscovery_lifetime=0)
    old = provider.user_token("alice", "openid", resource=API)["access_token"]
    assert gateway.get(path, bearer(old)).status == 200
    provider.control("rotate")
    new = provider.user_token("alice", "openid", resource=API)["access_token"]
    assert {gateway.get(path, bearer(token)).status for token in (new, old, new, old)} == {200}
    provider.control("rotate", drop=1)
    newest = provider.user_token("alice", "openid", resource=API)["access_token"]
    assert {gateway.get(path, bearer(newest)).status for _ in range(8)} == {200}


def test_opaque_token_is_introspected(gateway: Gateway, echo: Origin, provider: OidcProvider, protected: Any) -> None:
    path = protected(auth_methods=["introspection"], upstream_introspection_header="X-Introspection")
    token = provider.user_token("alice", "openid")["access_token"]
    provider.control("forget")
    assert {gateway.get(path, bearer(token)).status for _ in range(6)} == {200}
    assert b'"active":true' in base64.b64decode(echo.last.header("X-Introspection") or "")
    # Each worker asks once.
    assert 1 <= provider.requests("/token/introspection") <= 2
    refused = gateway.get(path, bearer("unknown"))
    assert (refused.status, 'error="invalid_token"' in challenge_of(refused)) == (401, True)


def test_revoked_token_is_refused_once_asked_again(gateway: Gateway, provider: OidcProvider, protected: Any) -> None:
    path = protected(auth_methods=["introspection"], cache_introspection=False)
    token = provider.token(client=(GATEWAY, GATEWAY_SECRET), grant_type="client_credentials")["access_token"]
    assert gateway.get(path, bearer(token)).status == 200
    provider.control("revoke-all")
    assert gateway.get(path, bearer(token)).status == 401


def test_password_and_client_credentials(gateway: Gateway, echo: Origin, provider: OidcProvider, protected: Any) -> None:
    path = protected(
        auth_methods=["password", "client_credentials"], hide_credentials=True, upstream_access_token_header="X-Token"
    )
    provider.control("forget")
    for pair in (("alice", "alices-own"), (SERVICE, SERVICE_SECRET)):
        assert {gateway.get(path, basic(*pair)).status for _ in range(6)} == {200}
        assert echo.last.header("Authorization") is None
        assert echo.last.header("X-Token")
    asked = provider.requests("/token")
    assert asked <= 6
    refused = gateway.get(path, basic("alice", "guessed"))
    assert refused.status == 401
    assert "guessed" not in gateway.error_log.path.read_text()


def test_userinfo(gateway: Gateway, echo: Origin, provider: OidcProvider, protected: Any) -> None:
    path = protected(auth_methods=["userinfo"], upstream_headers_claims=["email"], upstream_headers_names=["X-Email"])
    token = provider.user_token("alice", "openid email")["access_token"]
    assert gateway.get(path, bearer(token)).status == 200
    assert echo.last.header("X-Email") == "alice@example.com"
    assert gateway.get(path, bearer("unknown")).status == 401


def test_anonymous_passes_as_a_consumer(gateway: Gateway, blueprints: Blueprints, echo: Origin, protected: Any) -> None:
    guest = blueprints.consumer()
    path = protected(anonymous=guest["id"])
    assert gateway.get(path).status == 200
    assert echo.last.header("X-Anonymous-Consumer") == "true"
    assert gateway.get(path, bearer("bad")).status == 200
    assert echo.last.header("X-Consumer-ID") == guest["id"]


def test_one_of_several_issuers(gateway: Gateway, provider: OidcProvider, protected: Any) -> None:
    with OidcProvider() as other:
        path = protected(
            issuers_allowed=[provider.issuer, other.issuer], extra_jwks_uris=[f"{other.issuer}/jwks"], rediscovery_lifetime=0
        )
        for issuer in (provider, other):
            token = issuer.user_token("alice", "openid", resource=API)["access_token"]
            assert gateway.get(path, bearer(token)).status == 200
        only = protected()
        assert gateway.get(only, bearer(other.user_token("alice", "openid", resource=API)["access_token"])).status == 401


def test_preflight_may_pass(gateway: Gateway, protected: Any) -> None:
    path = protected(run_on_preflight=False)
    assert gateway.send(f"OPTIONS {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode(), "OPTIONS").status == 200


def test_gateway_proves_itself_by_its_own_key_to_a_provider_over_tls(
    gateway: Gateway, echo: Origin, blueprints: Blueprints, tmp_path: Path
) -> None:
    own = jwt.algorithms.RSAAlgorithm.to_jwk(private_key("RS256"), as_dict=True) | {"kid": "own", "use": "sig", "alg": "RS256"}
    del own["key_ops"]
    public = {name: own[name] for name in ("kty", "n", "e", "kid", "use", "alg")}
    keyed = {
        "client_id": "keyed",
        "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["password"],
        "response_types": [],
        "redirect_uris": [],
        "jwks": {"keys": [public]},
    }
    with OidcProvider(clients=[keyed], certificate=self_signed(tmp_path, "localhost")) as provider:
        config: dict[str, Any] = {
            "issuer": provider.issuer,
            "client_id": ["keyed"],
            "client_auth": ["private_key_jwt"],
            "client_jwk": [own],
            "auth_methods": ["password", "introspection"],
            "consumer_claim": ["sub"],
            "consumer_optional": True,
            "scopes": ["openid"],
        }
        trusting = blueprints.plugged(echo, "openid-connect", ssl_verify=False, **config)
        assert gateway.get(trusting, basic("alice", "alices-own")).status == 200
        assert echo.last.header("X-Credential-Identifier") == "alice"
        reply = gateway.get(blueprints.plugged(echo, "openid-connect", **config), basic("alice", "alices-own"))
        assert reply.status == 500
        assert "certificate verify failed" in gateway.failures.wait_for(reply.request_id)[0]


def test_token_of_our_own_oauth2(gateway: Gateway, blueprints: Blueprints, echo: Origin, protected: Any) -> None:
    consumer = blueprints.consumer()
    application = blueprints.admin.post(
        f"/consumers/{consumer['id']}/oauth2", {"name": "app", "redirect_uris": ["http://app.test/"]}
    )
    token = blueprints.admin.post("/oauth2_tokens", {"credential": {"id": application["id"]}, "expires_in": 600})
    path = protected(auth_methods=["kong_oauth2", "introspection"])
    assert gateway.get(path, bearer(token["access_token"])).status == 200
    assert echo.last.header("X-Consumer-ID") == consumer["id"]
    blueprints.admin.delete(f"/oauth2_tokens/{token['id']}")
    gateway.settle()
    assert gateway.get(path, bearer(token["access_token"])).status == 401


def test_other_changes_of_the_configuration_do_not_bother_the_provider(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, provider: OidcProvider, protected: Any
) -> None:
    path = protected()
    token = provider.user_token("alice", "openid", resource=API)["access_token"]
    assert gateway.get(path, bearer(token)).status == 200
    provider.control("forget")
    blueprints.path(echo)
    gateway.settle()
    assert gateway.get(path, bearer(token)).status == 200
    assert provider.requests() == 0
