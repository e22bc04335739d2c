# SPDX-License-Identifier: Apache-2.0
"""session: is it the browser that logged in before?

For pages whose users authenticate once and not with every request. It runs before the plugins that authenticate: a good
cookie says who the client is. Whom they found on a request without one is given a cookie with the answer. Those plugins
need `anonymous`, or they ask for credentials all the same.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from pylae.plugins.session import config as declared
from pylae.plugins.session.entities import SessionMetadata, StoredSession
from pylae.sdk import Answer, Exchange, Host, Instance, Plugin, bodies
from pylae.sdk.auth import Identity, facts_of
from pylae.sdk.auth.facts import groups_of, set_groups
from pylae.sdk.entities import CallFailed
from pylae.sdk.sessions import CookieFlags, DatabaseStore, Sealer, Sessions, Timeouts
from pylae.sdk.sessions.sessions import Session as OpenSession

OPENED: Final = "session.opened"
"""In `exchange.ctx`: the session that authenticated this request."""
ENDED: Final = "session.ended"
MAX_BODY_BYTES: Final = 65_536
AUTHENTICATED_GROUPS: Final = "X-Authenticated-Groups"


class Prepared:
    """A configuration with its cookies and keys made."""

    __slots__ = (
        "database",
        "forged",
        "hashes_subject",
        "keeps_metadata",
        "logout_argument",
        "logout_field",
        "logout_methods",
        "reads_body",
        "remembers",
        "request_headers",
        "response_headers",
        "sealer",
        "sessions",
        "settings",
    )

    def __init__(self, config: declared.Config) -> None:
        self.settings = config
        self.sealer = Sealer(config.secret, f"session {config.cookie_name} {config.audience}")
        self.logout_methods = frozenset(config.logout_methods)
        self.logout_argument = config.logout_query_arg
        self.logout_field = config.logout_post_arg
        self.reads_body = config.read_body_for_logout
        self.remembers = config.remember
        self.request_headers = tuple(config.request_headers or ())
        self.response_headers = tuple(config.response_headers or ())
        self.forged = tuple((f"Session-{_title(name)}", None) for name in self.request_headers)
        """Removes what a client sends under the names of the headers that tell of a session."""
        self.hashes_subject = config.hash_subject
        self.keeps_metadata = config.store_metadata and config.storage == "kong"
        # Made with the first request: the store belongs to the worker.
        self.sessions: Sessions | None = None

    def sessions_of(self, host: Host) -> Sessions:
        """The sessions of this configuration in a worker."""
        if self.sessions is None:
            config = self.settings
            timeouts = Timeouts(config.idling_timeout, config.rolling_timeout, config.absolute_timeout, config.stale_ttl)
            remembered = None
            if self.remembers:
                kept = Timeouts(0, config.remember_rolling_timeout, config.remember_absolute_timeout, config.stale_ttl)
                remembered = self._flags(config.remember_cookie_name), kept
            self.sessions = Sessions(
                host.now_ms,
                self.sealer,
                self._flags(config.cookie_name),
                timeouts,
                audience=config.audience,
                store=DatabaseStore(host.entities, has_metadata=self.keeps_metadata) if config.storage == "kong" else None,
                remembered=remembered,
            )
        return self.sessions

    def _flags(self, name: str) -> CookieFlags:
        config = self.settings
        return CookieFlags(
            name,
            config.cookie_path,
            config.cookie_domain,
            config.cookie_same_site,
            config.cookie_http_only,
            config.cookie_secure,
        )


class Session(Plugin):
    """Keeps clients authenticated by a cookie."""

    name = "session"
    version = "3.10.0"
    priority = 1900
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    scopes = ("global", "service", "route")
    reads_body = MAX_BODY_BYTES
    authenticates = True
    Config = declared.Config
    entities = (StoredSession, SessionMetadata)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._consumers = host.entities.lookup("consumers", "id")

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Makes the sealer."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only to look for a logout."""
        return MAX_BODY_BYTES if config.reads_body else 0

    async def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Says who the client is, if its cookie is good; ends the session if that is asked for."""
        sessions = config.sessions_of(self.host)
        if config.forged:
            exchange.service.request.set_headers(config.forged)
        if not sessions.is_sent(exchange):
            return None
        session = await sessions.open(exchange)
        if session is None:
            return None
        if _is_logout(exchange, config):
            await sessions.end(exchange, session)
            exchange.ctx[ENDED] = True
            return exchange.answer(200)
        found = await self._consumer_of(session)
        if found is None:
            # Its Consumer is gone, and so is what the session stands on.
            await sessions.end(exchange, session)
            return None
        consumer, credential_id, groups = found
        Identity(consumer, {"id": credential_id, "consumer": {"id": consumer["id"]}}, credential_id).impose(exchange)
        if groups:
            set_groups(exchange, groups)
        exchange.service.request.set_headers(((AUTHENTICATED_GROUPS, ", ".join(groups) if groups else None),))
        facts_of(exchange).methods.append(self.name)
        exchange.ctx[OPENED] = session
        await sessions.use(exchange, session)
        self._tell(exchange, config, session, _subject(config, consumer["id"]))
        return None

    async def header_filter(self, exchange: Exchange, config: Prepared) -> None:
        """Gives a cookie to whom another plugin has authenticated."""
        consumer, credential = exchange.client.consumer, exchange.client.credential
        if consumer is None or credential is None or ENDED in exchange.ctx:
            return
        content = [consumer["id"], str(credential.get("id") or consumer["id"]), groups_of(exchange) or []]
        opened = exchange.ctx.get(OPENED)
        if isinstance(opened, OpenSession) and opened.content[:2] == content[:2]:
            return
        sessions = config.sessions_of(self.host)
        session = sessions.begin(content, is_remembered=config.remembers, subject=_subject(config, consumer["id"]))
        try:
            if not await sessions.write(exchange, session):
                exchange.log("warn", "session: the groups of this client are too many for a cookie; hint: storage=kong")
        except CallFailed as failure:
            # The answer is here and good: it goes out without a cookie, and the client authenticates once more.
            exchange.log("error", f"session: not saved: {failure}")

    async def _consumer_of(self, session: OpenSession) -> tuple[dict[str, Any], str, list[str]] | None:
        match session.content:
            case [str(consumer_id), str(credential_id), list(groups)]:
                consumer = await self._consumers.get(consumer_id)
                return None if consumer is None else (consumer, credential_id, [str(group) for group in groups])
        return None

    def _tell(self, exchange: Exchange, config: Prepared, session: OpenSession, subject: str) -> None:
        if not config.request_headers and not config.response_headers:
            return
        facts = config.sessions_of(self.host).facts(session, subject)
        upstream = [(f"Session-{_title(name)}", facts[name]) for name in config.request_headers]
        exchange.service.request.set_headers(upstream)
        for name in config.response_headers:
            value = facts[name]
            if value is not None:
                exchange.response.set_header(f"Session-{_title(name)}", value)


def _subject(config: Prepared, consumer_id: str) -> str:
    return hashlib.sha256(consumer_id.encode()).hexdigest() if config.hashes_subject else consumer_id


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _is_logout(exchange: Exchange, config: Prepared) -> bool:
    request = exchange.request
    if request.method not in config.logout_methods:
        return False
    if request.raw_query and request.get_query_arg(config.logout_argument) is not None:
        return True
    if not config.reads_body or not request.body:
        return False
    kind = bodies.media_type(request.get_header("content-type") or "")
    if kind == bodies.FORM:
        return config.logout_field in dict(bodies.parse_form(request.body))
    if kind == bodies.JSON:
        return config.logout_field in (bodies.parse_json_object(request.body) or {})
    return False
