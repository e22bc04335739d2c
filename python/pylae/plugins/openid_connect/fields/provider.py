# SPDX-License-Identifier: Apache-2.0
"""Where is the identity provider, and how is it spoken to?"""

from __future__ import annotations

from typing import Any

from pylae.plugins.openid_connect.fields.client_jwk import ClientJwk
from pylae.plugins.openid_connect.fields.redis import Redis
from pylae.plugins.openid_connect.fields.shapes import CLIENT_AUTH, flag, seconds, text, texts, url, urls
from pylae.sdk import Record, field, kinds


def _client_auth(doc: str) -> Any:
    return text(doc, one_of=CLIENT_AUTH)


class Provider(Record):
    """The issuer and its endpoints."""

    issuer: str = field(
        kinds.string(rule="url"),
        required=True,
        referenceable=True,
        doc="Issuer of the tokens, or the address of its discovery document.",
    )
    using_pseudo_issuer: bool = flag("Asks no discovery document: `issuer` is a name only, and the endpoints are set here.")
    discovery_headers_names: list[str] | None = texts("Names of headers sent with the request for the discovery document.")
    discovery_headers_values: list[str] | None = texts("Their values, in the same order.")
    rediscovery_lifetime: float = seconds("How long at least lies between two discoveries.", default=30)
    extra_jwks_uris: list[str] | None = urls("Addresses of further key sets whose keys are trusted.", is_referenceable=True)
    jwks_endpoint: str | None = url("Address of the key set, in place of the discovered one.")
    issuers_allowed: list[str] | None = texts(
        "Issuers (`iss`) a token may come from; the discovered one when unset.", is_referenceable=True
    )

    authorization_endpoint: str | None = url("Where browsers log in, in place of the discovered address.")
    token_endpoint: str | None = url("Where tokens are got, in place of the discovered address.")
    introspection_endpoint: str | None = url(
        "Where tokens are asked about, in place of the discovered address.", referenceable=True
    )
    userinfo_endpoint: str | None = url("Where users are asked about, in place of the discovered address.")
    revocation_endpoint: str | None = url("Where tokens are given back, in place of the discovered address.")
    end_session_endpoint: str | None = url("Where browsers log out, in place of the discovered address.")
    token_exchange_endpoint: str | None = url("Where tokens are exchanged; exchange is not supported.")
    pushed_authorization_request_endpoint: str | None = url(
        "Where authorization requests are pushed, in place of the discovered address."
    )
    mtls_token_endpoint: str | None = url("Where tokens are got with a client certificate; not supported.")
    mtls_introspection_endpoint: str | None = url("Where tokens are asked about with a client certificate; not supported.")
    mtls_revocation_endpoint: str | None = url("Where tokens are given back with a client certificate; not supported.")

    client_arg: str = text("Header, argument or field by which a request chooses one of several clients.", default="client_id")
    client_id: list[str] | None = texts("Ids under which the provider knows the gateway.", is_referenceable=True, is_secret=True)
    client_secret: list[str] | None = texts("Secrets of these clients, in the same order.", is_referenceable=True, is_secret=True)
    client_auth: list[str] | None = texts(
        "How each client proves who it is; what the provider supports, or `client_secret_basic`, when unset.", one_of=CLIENT_AUTH
    )
    client_alg: list[str] | None = texts(
        "Algorithms that client assertions are signed with.",
        one_of=(
            *("ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"),
            *("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
        ),
    )
    client_jwk: list[Any] | None = field(
        kinds.array(kinds.record(ClientJwk)),
        doc="Private keys that client assertions are signed with, in the order of the clients.",
    )
    token_endpoint_auth_method: str | None = _client_auth("How a client proves itself to the token endpoint.")
    introspection_endpoint_auth_method: str | None = _client_auth("How a client proves itself to the introspection endpoint.")
    revocation_endpoint_auth_method: str | None = _client_auth("How a client proves itself to the revocation endpoint.")
    pushed_authorization_request_endpoint_auth_method: str | None = _client_auth(
        "How a client proves itself where authorization requests are pushed."
    )
    tls_client_auth_cert_id: str | None = field(
        kinds.string(uuid=True), doc="Id of the certificate shown to the provider; not supported."
    )
    tls_client_auth_ssl_verify: bool = flag("Verifies the provider's certificate where one is shown to it.", default=True)

    ssl_verify: bool = flag("Verifies the provider's certificate.", default=True)
    timeout: float = field(
        kinds.number(between=(1, 2_147_483_646)),
        default=10_000,
        unit="milliseconds",
        doc="How long the provider may take for one answer.",
    )
    keepalive: bool = flag("Keeps connections to the provider open.", default=True)
    http_version: float = field(kinds.number(one_of=(1.0, 1.1)), default=1.1, doc="HTTP spoken to the provider; 1.1 only.")
    http_proxy: str | None = url("Proxy for `http` addresses; not supported.")
    http_proxy_authorization: str | None = text("What that proxy is told; not supported.", referenceable=True, secret=True)
    https_proxy: str | None = url("Proxy for `https` addresses; not supported.")
    https_proxy_authorization: str | None = text("What that proxy is told; not supported.", referenceable=True, secret=True)
    no_proxy: str | None = text("Hosts reached without a proxy.")

    cache_ttl: float = seconds("How long an answer is good for that does not say when it ends.", default=3_600)
    cache_ttl_max: float | None = seconds("How long an answer is good for at most.")
    cache_ttl_min: float | None = seconds("How long an answer is good for at least, its own end permitting.")
    cache_ttl_neg: float | None = seconds("How long a refusal by the provider is remembered; not at all when unset.")
    cache_ttl_resurrect: float | None = seconds(
        "How long past its end a discovery document or key set is used while the provider cannot be reached."
    )
    cache_introspection: bool = flag("Remembers what the introspection endpoint answers.", default=True)
    cache_token_exchange: bool = flag("Remembers exchanged tokens.", default=True)
    cache_tokens: bool = flag("Remembers tokens got from the token endpoint.", default=True)
    cache_tokens_salt: str | None = text("Kept apart from other configurations' remembered tokens by this text.")
    cache_user_info: bool = flag("Remembers what the userinfo endpoint answers.", default=True)
    token_cache_key_include_scope: bool = flag("Remembers tokens of other scopes apart.")
    cluster_cache_strategy: str = text("Where nodes share what they remember.", default="off", one_of=("off", "redis"))
    cluster_cache_redis: Redis = field(kinds.record(Redis), doc="The Redis server they would share it in; not supported.")
