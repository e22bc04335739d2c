# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for openid-connect?

Names and shapes are those of Kong's public schema (versions 3.10 to 3.15). What is not supported is refused by
`refusals.judge`, when the configuration is written.
"""

from __future__ import annotations

from typing import Final

from pylae.plugins.openid_connect.fields.login import Login
from pylae.plugins.openid_connect.fields.postgres import SessionPostgres
from pylae.plugins.openid_connect.fields.redis import SessionRedis
from pylae.plugins.openid_connect.fields.shapes import METHODS, SAME_SITE, choices, flag, port, seconds, text
from pylae.sdk import field, kinds

SESSION_HEADERS: Final = ("absolute-timeout", "audience", "id", "idling-timeout", "rolling-timeout", "subject", "timeout")


class Config(Login):
    """What an administrator may set; the sessions of browsers come last."""

    session_secret: str | None = field(
        kinds.string(),
        referenceable=True,
        secret=True,
        doc="What session cookies are sealed with; made of the client's secret when unset.",
    )
    session_audience: str = text("What the session is for.", default="default")
    session_cookie_name: str = text("Name of the session cookie.", default="session")
    session_cookie_path: str = text("Path of the session cookie.", default="/")
    session_cookie_domain: str | None = text("Domain of the session cookie.")
    session_cookie_same_site: str = text(
        "Whether the session cookie comes along from other sites.", default="Lax", one_of=SAME_SITE
    )
    session_cookie_http_only: bool = flag("Keeps the session cookie from scripts.", default=True)
    session_cookie_secure: bool | None = flag(
        "Sends the session cookie over TLS only; as the request came when unset.", default=None
    )
    session_rolling_timeout: float = seconds("How long a session lasts before it is renewed; 0 for any time.", default=3_600)
    session_idling_timeout: float = seconds("How long a session may lie unused; 0 for any time.", default=900)
    session_absolute_timeout: float = seconds("How long a session may be renewed; 0 for ever.", default=86_400)
    session_remember: bool = flag("Keeps sessions over the end of the browser.")
    session_remember_cookie_name: str = text("Name of the cookie for that.", default="remember")
    session_remember_rolling_timeout: float = seconds("How long such a session lasts; 0 for any time.", default=604_800)
    session_remember_absolute_timeout: float = seconds("How long such a session may be renewed; 0 for ever.", default=2_592_000)
    session_bind: list[str] | None = choices("What of the request the session is bound to.", ("ip", "scheme", "user-agent"))
    session_enforce_same_subject: bool = flag("Refuses a session whose audiences have several subjects.")
    session_hash_subject: bool = flag("Stores a hash of the subject.")
    session_hash_storage_key: bool = flag("Stores sessions under a hash of their id.")
    session_store_metadata: bool = flag("Stores which sessions a subject has.")
    session_request_headers: list[str] | None = choices("What the upstream is told of the session.", SESSION_HEADERS)
    session_response_headers: list[str] | None = choices("What the client is told of the session.", SESSION_HEADERS)
    session_storage: str = text(
        "Where sessions are kept.", default="cookie", one_of=("cookie", "memcache", "memcached", "postgres", "redis")
    )
    session_memcached_host: str = text("Host of memcached; not supported.", default="127.0.0.1")
    session_memcached_port: int = port("Port of memcached.", default=11_211)
    session_memcached_prefix: str | None = text("What keys in memcached begin with.")
    session_memcached_socket: str | None = text("UNIX socket of memcached.")
    disable_session: list[str] | None = choices("Ways of authentication that begin no session.", METHODS)
    reverify: bool = flag("Verifies the tokens of a session at each request.")
    redis: SessionRedis = field(kinds.record(SessionRedis), doc="The Redis server that keeps sessions.")
    postgres: SessionPostgres = field(
        kinds.record(SessionPostgres), doc="The PostgreSQL server that keeps sessions; not known to Kong."
    )
