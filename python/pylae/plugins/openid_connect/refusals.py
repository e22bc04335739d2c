# SPDX-License-Identifier: Apache-2.0
"""What of a configuration can be written down, but not done?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pylae.sdk import SchemaViolation

Judge = Callable[[Any], bool]
_NOT_SUPPORTED: Final = "is not supported"

_UNSUPPORTED: Final[tuple[tuple[str, Judge, str], ...]] = (
    *(
        (name, bool, _NOT_SUPPORTED)
        for name in (
            *("token_exchange_endpoint", "http_proxy", "https_proxy", "tls_client_auth_cert_id", "consumer_groups_claim"),
            *("mtls_token_endpoint", "mtls_introspection_endpoint", "mtls_revocation_endpoint", "by_username_ignore_case"),
            *("require_pushed_authorization_requests", "require_signed_request_object", "resolve_distributed_claims"),
        )
    ),
    ("http_version", lambda value: value not in (None, 1.1), "only HTTP 1.1 is supported"),
    ("cluster_cache_strategy", lambda value: value == "redis", "`redis` is not supported, use `off`"),
    ("proof_of_possession_dpop", lambda value: value in ("optional", "strict"), "only `off` is supported"),
    (
        "session_storage",
        lambda value: value in ("memcache", "memcached"),
        "memcached is not supported, use `redis` or `postgres`",
    ),
    ("response_mode", lambda value: value not in (None, "query", "form_post"), "only `query` and `form_post` are supported"),
    ("response_type", lambda value: value not in (None, ["code"]), "only `code` is supported"),
)
_TLS_CLIENT_AUTH: Final = ("tls_client_auth", "self_signed_tls_client_auth")
_CLIENT_AUTH_FIELDS: Final = (
    "token_endpoint_auth_method",
    "introspection_endpoint_auth_method",
    "revocation_endpoint_auth_method",
    "pushed_authorization_request_endpoint_auth_method",
)
_PAIRS: Final = (
    ("discovery_headers_names", "discovery_headers_values"),
    ("token_headers_names", "token_headers_values"),
    ("token_post_args_names", "token_post_args_values"),
    ("introspection_headers_names", "introspection_headers_values"),
    ("introspection_post_args_names", "introspection_post_args_values"),
    ("userinfo_headers_names", "userinfo_headers_values"),
    ("userinfo_query_args_names", "userinfo_query_args_values"),
    ("authorization_query_args_names", "authorization_query_args_values"),
    ("upstream_headers_claims", "upstream_headers_names"),
    ("downstream_headers_claims", "downstream_headers_names"),
)
_HEADER_NAMES: Final = (
    "discovery_headers_names",
    "token_headers_names",
    "introspection_headers_names",
    "userinfo_headers_names",
    "upstream_headers_names",
    "downstream_headers_names",
)
WITH_POSSESSION: Final = frozenset({"bearer", "introspection", "session"})
"""Methods of authentication whose tokens may be bound to a certificate."""


def judge(config: Mapping[str, Any]) -> None:
    """Refuses what is not supported, and what cannot be meant.

    Raises:
        SchemaViolation: with a reason for each field.
    """
    refused: dict[str, Any] = {name: reason for name, is_refused, reason in _UNSUPPORTED if is_refused(config.get(name))}
    for name in _CLIENT_AUTH_FIELDS:
        if config.get(name) in _TLS_CLIENT_AUTH:
            refused[name] = f"`{config[name]}` {_NOT_SUPPORTED}"
    if any(method in _TLS_CLIENT_AUTH for method in config.get("client_auth") or ()):
        refused["client_auth"] = f"`tls_client_auth` {_NOT_SUPPORTED}"
    for names, values in _PAIRS:
        if len(config.get(names) or ()) != len(config.get(values) or ()):
            refused[values] = f"must have as many entries as `{names}`"
    for name in _HEADER_NAMES:
        bad = [text for text in config.get(name) or () if not _is_token(text)]
        if bad:
            refused[name] = f"`{bad[0]}` is no name of a header"
    for name in config:
        said = config[name] if name.startswith(("upstream_", "downstream_")) and name.endswith("_header") else None
        if said and not _is_token(said.partition(":")[0]):
            refused[name] = f"`{said.partition(':')[0]}` is no name of a header"
    redis = config.get("redis") or {}
    if redis.get("cluster_nodes") or redis.get("sentinel_master") or redis.get("sentinel_nodes"):
        refused["redis"] = f"a cluster or sentinels are {_NOT_SUPPORTED[3:]}"
    possession = config.get("proof_of_possession_mtls")
    if possession in ("optional", "strict") and config.get("proof_of_possession_auth_methods_validation") is not False:
        others = sorted(set(config.get("auth_methods") or ()) - WITH_POSSESSION)
        if others:
            refused["auth_methods"] = f"{', '.join(others)}: no proof of possession goes with it"
    browsers = set(config.get("auth_methods") or ()) & {"authorization_code", "session"}
    secrets = ("session_secret", "client_secret", "client_jwk")
    if browsers and config.get("client_id") and not any(config.get(name) for name in secrets):
        refused["session_secret"] = "required where browsers log in and the client has no secret"
    if refused:
        raise SchemaViolation({"config": refused})


def _is_token(text: str) -> bool:
    """A header's name: RFC 9110, section 5.6.2."""
    return bool(text) and text.isascii() and all(one.isalnum() or one in "!#$%&'*+-.^_`|~" for one in text)
