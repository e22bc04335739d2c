# SPDX-License-Identifier: Apache-2.0
"""What follows from a configuration, whatever the request?"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pylae.plugins.openid_connect.config import Config
from pylae.plugins.openid_connect.headers import HeaderPlan
from pylae.plugins.openid_connect.parts import ProviderClient
from pylae.sdk.auth import Remembered
from pylae.sdk.plugin import Instance
from pylae.sdk.sessions import Sealer, Sessions

if TYPE_CHECKING:
    from pylae.plugins.openid_connect.login_state import LoginCookie
    from pylae.plugins.openid_connect.provider import Provider

MAX_REMEMBERED: Final = 8_192
BROWSER_METHODS: Final = frozenset({"authorization_code", "session"})
"""These need the browser half."""


class Settings:
    """A configuration, prepared.

    Attributes:
        config: As validated; whatever no attribute here stands for is read from it.
        plugin_id: Which of the configured plugins this is.
        methods: The `auth_methods`.
        tag: Keeps apart what is remembered under this configuration from what is under others, or was under an earlier one.
        provider: Filled in by the core when a request comes first.
    """

    def __init__(self, config: Config, instance: Instance) -> None:
        self.config = config
        self.plugin_id = instance.id
        self.anonymous = config.anonymous
        self.methods = frozenset(config.auth_methods or ())
        self.remembered = Remembered(MAX_REMEMBERED)
        """What signed tokens in `Authorization` decided."""
        self.tag = secrets.token_hex(8)
        self.skips_preflight = config.run_on_preflight is False
        self.leeway_s = config.leeway or 0
        self.timeout_ms = config.timeout or 10_000
        self.clients = _clients(config)
        # A browser is sent to log in as a client of the provider's.
        self.has_browser = bool(self.methods & BROWSER_METHODS) and bool(self.clients)
        self.client_by_name = {client.client_id: client for client in self.clients}
        self.consumer_claims = _claims(config)
        self.requirements = _requirements(config)
        self.upstream_claims = _claim_headers(
            config.upstream_headers, config.upstream_headers_claims, config.upstream_headers_names
        )
        self.downstream_claims = _claim_headers(
            config.downstream_headers, config.downstream_headers_claims, config.downstream_headers_names
        )
        self.upstream_plan = HeaderPlan(config, "upstream", self.upstream_claims)
        self.downstream_plan = HeaderPlan(config, "downstream", self.downstream_claims)
        self.challenge_realm = realm_of(config.issuer)
        self.bearer_places = frozenset(config.bearer_token_param_type or ())
        self.reads_body = self._may_read_body(config)
        self.may_introspect = bool(self.clients or config.introspection_headers_names)
        self.needs_claims = bool(
            self.consumer_claims
            or self.requirements
            or config.authenticated_groups_claim
            or self.upstream_claims
            or self.downstream_claims
        )
        self.is_quick = self._is_quick(config)
        self.provider: Provider | None = None
        self.session_secret = config.session_secret or _secret_of_client(config)
        self.login_sealer = Sealer(self.session_secret, f"openid-connect login {instance.id}")
        self.login_cookie: LoginCookie | None = None
        self.sessions: dict[bool, Sessions] = {}
        """By whether their cookies are for TLS only; filled in by the browser half."""

    def __repr__(self) -> str:
        return f"<openid-connect settings {self.plugin_id}>"

    def end_ms(self, now_ms: int, ends_s: float | None) -> int:
        """How long what the provider said is remembered, in milliseconds since the epoch: never longer than it lasts."""
        config = self.config
        lasts_s = max(config.cache_ttl or 0, config.cache_ttl_min or 0)
        if ends_s is not None:
            lasts_s = max(ends_s - now_ms / 1000, 0)
        if config.cache_ttl_max:
            lasts_s = min(lasts_s, config.cache_ttl_max)
        # 0 would stand for ever.
        return max(now_ms + int(lasts_s * 1000), 1)

    def _is_quick(self, config: Config) -> bool:
        """May a signed token in `Authorization` be let pass without a look at anything else but cookies?"""
        acts = config.login_action != "upstream" and "bearer" in (config.login_methods or ())
        may_log_out = bool(config.logout_query_arg or config.logout_post_arg or config.logout_uri_suffix)
        return (
            "bearer" in self.methods
            and "header" in self.bearer_places
            and not config.bearer_token_header_name
            and not config.introspect_jwt_tokens
            and not config.search_user_info
            and not config.jwt_session_cookie
            and not config.id_token_param_name
            # It may end a token before its own end.
            and config.max_age is None
            and config.proof_of_possession_mtls in (None, "off")
            and not (self.has_browser and (acts or may_log_out))
        )

    def _may_read_body(self, config: Config) -> bool:
        methods = self.methods
        return (
            (bool(methods & {"bearer", "introspection", "userinfo", "kong_oauth2"}) and "body" in self.bearer_places)
            or ("password" in methods and "body" in (config.password_param_type or ()))
            or ("client_credentials" in methods and "body" in (config.client_credentials_param_type or ()))
            or ("refresh_token" in methods and bool(config.refresh_token_param_name))
            or config.logout_post_arg is not None
            or ("authorization_code" in methods and config.response_mode == "form_post")
            or len(self.clients) > 1
        )


def _secret_of_client(config: Config) -> str:
    """Known to every worker and every node that has this configuration, and to nobody who has not."""
    if config.client_secret:
        return config.client_secret[0]
    jwk = _jwk(config.client_jwk[0]) if config.client_jwk else None
    # `refusals.judge` sees to it that browsers are not served without one.
    return str(jwk["d"]) if jwk and jwk.get("d") else secrets.token_hex(32)


def realm_of(issuer: str) -> str:
    """What `WWW-Authenticate` calls the place where tokens come from."""
    return issuer.partition("://")[2].partition("/")[0] or issuer


def _clients(config: Config) -> tuple[ProviderClient, ...]:
    def nth(values: Sequence[Any] | None, index: int) -> Any:
        return values[index] if values and index < len(values) else None

    auth = config.client_auth or []
    return tuple(
        ProviderClient(
            index,
            client_id,
            nth(config.client_secret, index),
            # One method said is said for all.
            auth[0] if len(auth) == 1 else nth(auth, index),
            nth(config.client_alg, index),
            _jwk(nth(config.client_jwk, index)),
        )
        for index, client_id in enumerate(config.client_id or ())
    )


def _jwk(record: Any) -> Mapping[str, Any] | None:
    if record is None:
        return None
    return {name: value for name, value in vars(record).items() if value is not None}


def _claims(config: Config) -> tuple[tuple[str, ...], ...]:
    """Ways to the claims that may name a Consumer."""
    paths = [tuple(path) for path in config.consumer_claims or ()]
    if config.consumer_claim:
        paths.append(tuple(config.consumer_claim))
    return tuple(paths)


Requirement = tuple[str, tuple[str, ...], tuple[frozenset[str], ...]]
"""What it is called, the way to the claim, and sets of values of which one must be there as a whole."""


def _requirements(config: Config) -> tuple[Requirement, ...]:
    declared = (
        ("scopes", config.scopes_claim, config.scopes_required),
        ("audience", config.audience_claim, config.audience_required),
        ("roles", config.roles_claim, config.roles_required),
        ("groups", config.groups_claim, config.groups_required),
    )
    return tuple(
        (what, tuple(path or ()), tuple(frozenset(entry.split()) for entry in required))
        for what, path, required in declared
        if required
    )


def _claim_headers(
    records: Sequence[Any] | None, claims: Sequence[str] | None, names: Sequence[str] | None
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Header and the way to its claim."""
    found = [(record.header, tuple(record.path)) for record in records or ()]
    found += [(name, (claim,)) for claim, name in zip(claims or (), names or (), strict=False)]
    return tuple(found)
