# SPDX-License-Identifier: Apache-2.0
"""How is a Grant kept for a browser, and found again by its cookie?"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

import msgspec

from pylae.plugins.openid_connect.fields.postgres import SessionPostgres
from pylae.plugins.openid_connect.fields.redis import SessionRedis
from pylae.plugins.openid_connect.login_state import scheme_of
from pylae.plugins.openid_connect.parts import Grant
from pylae.plugins.openid_connect.provider import issuer_of
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import Host
from pylae.sdk.auth import equals
from pylae.sdk.exchange import Exchange
from pylae.sdk.sessions import CookieFlags, Sealer, Session, Sessions, Store, Timeouts
from pylae.sdk.sessions.postgres_store import PostgresPlace, PostgresStore
from pylae.sdk.sessions.redis_store import RedisPlace, RedisStore

P = TypeVar("P", bound=Hashable)

STALE_S: Final = 10
OF_OUR_CLIENTS: Final = frozenset({"authorization_code", "password", "refresh_token"})
"""Ways of authentication whose tokens are given to a configured client."""


class Kept(msgspec.Struct, array_like=True):
    """What a session holds: the tokens, as they were sent.

    Attributes:
        issuer: Whose they are; a configuration for another issuer does not take them.
        client_id: The client they were given to.
        scope: What the token endpoint said of it; an opaque token says nothing itself.
        bound_to: A digest of what `session_bind` names.
    """

    granted_by: str
    issuer: str
    client_id: str | None
    access_token: str | None
    id_token: str | None
    refresh_token: str | None
    expires_at_s: float | None
    scope: str | None
    bound_to: bytes


class BrowserSessions:
    """The sessions of all configurations in a worker."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stores: dict[Hashable, Store] = {}

    def __repr__(self) -> str:
        return "<browser sessions>"

    async def close(self) -> None:
        """Closes connections."""
        for store in self._stores.values():
            await store.close()

    def of(self, exchange: Exchange, settings: Settings) -> Sessions:
        """The sessions of a configuration, with cookies as this request needs them."""
        config = settings.config
        is_secure = scheme_of(exchange) == "https" if config.session_cookie_secure is None else config.session_cookie_secure
        known: Sessions | None = settings.sessions.get(is_secure)
        if known is None:
            known = settings.sessions[is_secure] = self._make(settings, is_secure=is_secure)
        return known

    def _make(self, settings: Settings, *, is_secure: bool) -> Sessions:
        config = settings.config
        remembered = None
        if config.session_remember:
            kept = Timeouts(0, config.session_remember_rolling_timeout, config.session_remember_absolute_timeout, STALE_S)
            remembered = _flags(settings, config.session_remember_cookie_name, is_secure=is_secure), kept
        audience = config.session_audience or "default"
        return Sessions(
            self._host.now_ms,
            Sealer(settings.session_secret, f"openid-connect session {config.session_cookie_name} {audience}"),
            _flags(settings, config.session_cookie_name, is_secure=is_secure),
            Timeouts(config.session_idling_timeout, config.session_rolling_timeout, config.session_absolute_timeout, STALE_S),
            audience=audience,
            store=self._store(settings),
            remembered=remembered,
        )

    def _store(self, settings: Settings) -> Store | None:
        """Where sessions are kept; one for all configurations with the same place."""
        match settings.config.session_storage:
            case "redis":
                return self._kept_in(self._redis(settings.config.redis), RedisStore)
            case "postgres":
                return self._kept_in(self._postgres(settings.config.postgres), PostgresStore)
        return None

    def _kept_in(self, place: P, make: Callable[[P], Store]) -> Store:
        store = self._stores.get(place)
        if store is None:
            store = self._stores[place] = make(place)
        return store

    def _postgres(self, postgres: SessionPostgres) -> PostgresPlace:
        return PostgresPlace(
            host=postgres.host,
            port=postgres.port,
            user=postgres.user,
            password=postgres.password,
            database=postgres.database,
            uses_tls=postgres.ssl,
            verifies_tls=postgres.ssl_verify,
            timeout_ms=postgres.timeout,
            max_connections=postgres.pool_size,
            trusted_certificates=tuple(self._host.trusted_certificates),
        )

    def _redis(self, redis: SessionRedis) -> RedisPlace:
        return RedisPlace(
            host=redis.host,
            port=redis.port,
            socket=redis.socket,
            username=redis.username,
            password=redis.password,
            database=redis.database,
            uses_tls=redis.ssl,
            verifies_tls=redis.ssl_verify,
            server_name=redis.server_name,
            timeout_ms=max(redis.connect_timeout, redis.read_timeout, redis.send_timeout),
            max_connections=redis.keepalive_pool_size,
            prefix=redis.prefix or "session",
            trusted_certificates=tuple(self._host.trusted_certificates),
        )


def _flags(settings: Settings, name: str, *, is_secure: bool) -> CookieFlags:
    config = settings.config
    return CookieFlags(
        name,
        config.session_cookie_path or "/",
        config.session_cookie_domain,
        config.session_cookie_same_site or "Lax",
        config.session_cookie_http_only is not False,
        is_secure,
    )


def bound_to(exchange: Exchange, settings: Settings) -> bytes:
    """What of the request the session is bound to (`session_bind`), as a digest; empty for nothing."""
    found: list[str] = []
    for name in sorted(settings.config.session_bind or ()):
        match name:
            case "ip":
                found.append(exchange.client.forwarded_ip)
            case "scheme":
                found.append(scheme_of(exchange))
            case "user-agent":
                found.append(exchange.request.get_header("user-agent") or "")
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogateescape")).digest() if found else b""


def content_of(grant: Grant, settings: Settings, bound: bytes) -> bytes:
    """What a session holds of a Grant. Compressed: the line that carries cookies may have 8 KiB."""
    kept = Kept(
        grant.granted_by or grant.method,
        issuer_of(settings.config.issuer).rstrip("/"),
        None if grant.client is None else grant.client.client_id,
        grant.access_token,
        grant.id_token,
        grant.refresh_token,
        grant.expires_at_s,
        scope_of(grant),
        bound,
    )
    return zlib.compress(msgspec.msgpack.encode(kept))


def grant_of(session: Session, settings: Settings, bound: bytes) -> Grant | None:
    """The Grant of a session, its claims still unread.

    None for one of another issuer, for a client that is not configured any more, or bound to something else.
    """
    if not isinstance(session.content, bytes):
        return None
    try:
        kept = msgspec.msgpack.decode(zlib.decompress(session.content), type=Kept)
    except (msgspec.DecodeError, zlib.error):
        return None
    if kept.issuer != issuer_of(settings.config.issuer).rstrip("/") or not equals(kept.bound_to, bound):
        return None
    client = settings.client_by_name.get(kept.client_id or "")
    if client is None and kept.granted_by in OF_OUR_CLIENTS:
        return None
    return Grant(
        "session",
        client,
        granted_by=kept.granted_by,
        access_token=kept.access_token,
        id_token=kept.id_token,
        refresh_token=kept.refresh_token,
        expires_at_s=kept.expires_at_s,
        response=None if kept.scope is None else {"scope": kept.scope},
    )


def scope_of(grant: Grant) -> str | None:
    """What the token endpoint said that the access token is good for."""
    scope = (grant.response or {}).get("scope")
    return scope if isinstance(scope, str) else None
