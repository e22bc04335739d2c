# SPDX-License-Identifier: Apache-2.0
"""How does a browser log in, stay so, and log out? OpenID Connect Core, section 3.1; RFC 7636; RFC 9207.

The `BrowserFlow` of `parts`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from pylae.plugins.openid_connect import authorization, claims, login_actions, logout
from pylae.plugins.openid_connect.browser_sessions import BrowserSessions, bound_to, content_of, grant_of, scope_of
from pylae.plugins.openid_connect.headers import session_field
from pylae.plugins.openid_connect.login_state import Login, LoginCookie, new_login
from pylae.plugins.openid_connect.parts import Core, Grant, ProviderClient, Refused, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import Host
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.exchange import Answer, Exchange
from pylae.sdk.sessions import Session, Sessions
from pylae.sdk.sessions.cookies import MAX_COOKIES, without
from pylae.sdk.sessions.sealing import load_library

OPENED: Final = "openid-connect.session"
"""In `exchange.ctx`: the session of this request."""
REFRESHED: Final = "openid-connect.refreshed"
"""In `exchange.ctx`: that session holds other tokens than it came with."""
RETURNED: Final = "openid-connect.login"
"""In `exchange.ctx`: the login that this request ends."""
BEGINS_SESSION: Final = frozenset({"authorization_code", "password", "client_credentials", "refresh_token"})
"""Ways of authentication whose credential does not come with every request."""
REFRESHED_EARLIER_S: Final = 5
REFRESHED_KEPT_MS: Final = 60_000
MAX_REFRESHED: Final = 1_024
WARNED_BYTES: Final = 5_000
"""Of a session's content in cookies: sealed and encoded, not much more fits into a header line of 8 KiB."""


class Flow:
    """The browser half of the plugin, in one worker."""

    def __init__(self, host: Host, core: Core) -> None:
        self._core = core
        self._sessions = BrowserSessions(host)
        self._now_ms = host.now_ms
        self._is_loaded = False
        # Requests that come with one old cookie must not show one refresh token twice: the provider would take it for theft.
        self._refreshing: dict[bytes, asyncio.Task[Grant]] = {}
        self._refreshed: Verified[Grant] = Verified(host.now_ms, MAX_REFRESHED)

    def __repr__(self) -> str:
        return "<authorization code flow>"

    async def close(self) -> None:
        """Closes connections."""
        await self._sessions.close()

    async def intercept(self, exchange: Exchange, settings: Settings) -> Answer | Grant | None:
        """A logout, or the way back from the provider; None for any other request."""
        if not self._is_loaded:
            await load_library()
            self._is_loaded = True
        self._conceal(exchange, settings)
        if logout.is_asked(exchange, settings):
            return await self._log_out(exchange, settings)
        if "authorization_code" not in settings.methods:
            return None
        answer = authorization.answer_in(exchange, settings)
        if answer is None:
            return None
        cookie, now_s = login_cookie(settings), self._core.now_s()
        login = cookie.find(exchange, answer["state"], now_s)
        if login is None:
            # Not begun by this browser: whatever it brings is not looked at.
            return None
        # It ends here, however it ends.
        for line in cookie.lines(exchange, [one for one in cookie.logins(exchange, now_s) if one.state != login.state]):
            exchange.response.add_header("Set-Cookie", line)
        authorization.check_issuer(answer, await self._core.metadata(settings))
        code = authorization.code_of(answer)
        if not 0 <= login.client < len(settings.clients):
            raise Unauthorized("the login was begun under another configuration")
        arguments = {"grant_type": "authorization_code", "code": code, "redirect_uri": login.redirect_uri}
        if login.verifier is not None:
            arguments["code_verifier"] = login.verifier
        client = settings.clients[login.client]
        grant = await self._core.redeem(exchange, settings, client, "authorization_code", arguments, nonce=login.nonce)
        exchange.ctx[RETURNED] = login
        return grant

    async def resume(self, exchange: Exchange, settings: Settings) -> Grant | None:
        """The Grant of the session that the request's cookie names, refreshed if need be."""
        sessions = self._sessions.of(exchange, settings)
        if not sessions.is_sent(exchange):
            return None
        session = await sessions.open(exchange)
        if session is None:
            return None
        bound = bound_to(exchange, settings)
        grant = grant_of(session, settings, bound)
        if grant is None:
            return None
        if self._is_due(grant):
            renewed = await self._renewed(exchange, settings, sessions, grant, bound)
            if renewed is None:
                await sessions.end(exchange, session)
                return None
            if renewed is not grant:
                grant = renewed
                session.content = content_of(grant, settings, bound)
                await sessions.use(exchange, session, is_changed=True)
                exchange.ctx[REFRESHED] = True
        try:
            await self._core.read(settings, grant, verify=settings.config.reverify is True)
        except Refused as refusal:
            # Without a login its tokens never get better.
            exchange.log("notice", f"openid-connect: a session ends: {refusal.reason}")
            await sessions.end(exchange, session)
            return None
        exchange.ctx[OPENED] = session
        return grant

    def _is_due(self, grant: Grant) -> bool:
        return grant.expires_at_s is not None and grant.expires_at_s - REFRESHED_EARLIER_S <= self._core.now_s()

    async def _renewed(
        self, exchange: Exchange, settings: Settings, sessions: Sessions, grant: Grant, bound: bytes
    ) -> Grant | None:
        """A Grant whose access token stands; None where there is none to be had."""
        assert grant.expires_at_s is not None, "asked before"
        is_over = grant.expires_at_s <= self._core.now_s()
        try:
            renewed = await self._refresh(exchange, settings, grant)
        except SystemUnavailable:
            if is_over:
                raise
            renewed = None
        except Refused as refusal:
            exchange.log("notice", f"openid-connect: no new token for a session: {refusal.reason}")
            # Perhaps another worker was faster, and the store has what it got.
            session = await sessions.open(exchange)
            kept = None if session is None else grant_of(session, settings, bound)
            renewed = None if kept is None or self._is_due(kept) else kept
        return grant if renewed is None and not is_over else renewed

    async def _refresh(self, exchange: Exchange, settings: Settings, grant: Grant) -> Grant | None:
        """A Grant with new tokens; None without a way to get them."""
        if settings.config.refresh_tokens is False or grant.refresh_token is None or grant.client is None:
            return None
        # Both tokens: providers give the same refresh token again and again, or another each time.
        digest = self._refreshed.digest(settings.tag, grant.access_token or "", grant.refresh_token)
        new = self._refreshed.get(digest)
        if new is None:
            task = self._refreshing.get(digest)
            if task is None:
                arguments = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
                asked = self._core.redeem(exchange, settings, grant.client, "refresh_token", arguments)
                task = self._refreshing[digest] = asyncio.ensure_future(asked)
                task.add_done_callback(lambda done: self._note_refreshed(digest, done))
            new = await asyncio.shield(task)
        made = Grant("session", grant.client, granted_by=grant.granted_by)
        made.access_token, made.expires_at_s = new.access_token, new.expires_at_s
        made.id_token = new.id_token or grant.id_token
        made.refresh_token = new.refresh_token or grant.refresh_token
        scope = scope_of(new) or scope_of(grant)
        made.response = None if scope is None else {"scope": scope}
        if new.id_claims is not None and grant.id_token is not None:
            # OpenID Connect Core, section 12.2.
            before = await self._core.read(settings, Grant("session", grant.client, id_token=grant.id_token), verify=False)
            if (before.id_claims or {}).get("sub") != new.id_claims.get("sub"):
                raise TokenRefused("another subject")
        return made

    def _note_refreshed(self, digest: bytes, task: asyncio.Task[Grant]) -> None:
        self._refreshing.pop(digest, None)
        if not task.cancelled() and task.exception() is None:
            now_ms, new = self._now_ms(), task.result()
            left_ms = REFRESHED_KEPT_MS if new.expires_at_s is None else int(new.expires_at_s * 1000) - now_ms
            if left_ms > 0:
                self._refreshed.keep(digest, new, None, now_ms + min(left_ms, REFRESHED_KEPT_MS))

    async def begin(self, exchange: Exchange, settings: Settings) -> Answer:
        """Sends the browser to the provider."""
        metadata = await self._core.metadata(settings)
        endpoint = metadata.get("authorization_endpoint")
        if not isinstance(endpoint, str):
            raise SystemUnavailable(f"token issuer {settings.config.issuer}", "has no `authorization_endpoint`")
        client, now_s = self._core.client_of(exchange, settings), self._core.now_s()
        target = exchange.request.path_with_query
        if authorization.answer_in(exchange, settings) is not None:
            # Of another login, or of one that is over: nobody wants to come back to that.
            path, _, query = target.partition("?")
            query = authorization.without_answer(query)
            target = f"{path}?{query}" if query else path
        login = new_login(
            authorization.redirect_uri(exchange, settings, client),
            client.index,
            target,
            now_s,
            has_verifier=authorization.uses_pkce(settings, metadata),
        )
        cookie = login_cookie(settings)
        for line in cookie.lines(exchange, [*cookie.logins(exchange, now_s), login]):
            exchange.response.add_header("Set-Cookie", line)
        asked = urlencode(authorization.request_of(exchange, settings, client, login), errors="surrogateescape")
        where = f"{endpoint}{'&' if '?' in endpoint else '?'}{asked}"
        return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store"})

    async def establish(self, exchange: Exchange, settings: Settings, grant: Grant) -> Answer | None:
        """The client may pass: its session begins or goes on, `login_action` may answer."""
        sessions, subject = self._sessions.of(exchange, settings), _subject(settings, grant)
        session: Session | None = exchange.ctx.get(OPENED)
        if session is not None:
            if REFRESHED not in exchange.ctx:
                await sessions.use(exchange, session)
        elif self._begins_session(settings, grant):
            session = await self._start(exchange, settings, sessions, grant, subject)
        self._tell(exchange, settings, sessions, session, subject)
        login: Login | None = exchange.ctx.get(RETURNED)
        if login is not None:
            login_actions.clean(exchange, settings, login)
        return login_actions.act(exchange, settings, grant, login)

    def _begins_session(self, settings: Settings, grant: Grant) -> bool:
        disabled = settings.config.disable_session or ()
        return "session" in settings.methods and grant.method in BEGINS_SESSION and grant.method not in disabled

    async def _start(
        self, exchange: Exchange, settings: Settings, sessions: Sessions, grant: Grant, subject: str | None
    ) -> Session | None:
        content = content_of(grant, settings, bound_to(exchange, settings))
        # Whatever cookie came: a login gets an id that nobody knows.
        session = sessions.begin(content, is_remembered=settings.config.session_remember is True, subject=subject)
        is_written = await sessions.write(exchange, session)
        if settings.config.session_storage == "cookie" and len(content) > WARNED_BYTES:
            hint = "session_storage=redis or postgres, or a larger nginx_http_large_client_header_buffers"
            exchange.log("warn", f"openid-connect: the tokens take long cookies ({len(content)} bytes); hint: {hint}")
        if is_written:
            return session
        if grant.method == "authorization_code":
            # Without a session the browser would be sent to log in again, for ever.
            raise SystemUnavailable("session cookie", "the tokens are too long for it; hint: session_storage=redis or postgres")
        return None

    async def end(self, exchange: Exchange, settings: Settings) -> None:
        """The client may not pass, and its session ends with that."""
        session = exchange.ctx.pop(OPENED, None)
        if isinstance(session, Session):
            await self._sessions.of(exchange, settings).end(exchange, session)

    async def _log_out(self, exchange: Exchange, settings: Settings) -> Answer:
        sessions = self._sessions.of(exchange, settings)
        session = await sessions.open(exchange) if sessions.is_sent(exchange) else None
        grant = None if session is None else grant_of(session, settings, bound_to(exchange, settings))
        await sessions.end(exchange, session)
        client: ProviderClient = settings.clients[0]
        if grant is not None:
            client = grant.client or client
            await logout.revoke(self._core, settings, grant, exchange)
        metadata = await self._core.metadata(settings)
        where = logout.destination(settings, metadata, client, None if grant is None else grant.id_token)
        if where is None:
            return exchange.answer(200, None, {"Cache-Control": "no-store"})
        # 302 leaves a DELETE what it is.
        status = 303 if exchange.request.method == "DELETE" else 302
        return exchange.answer(status, None, {"Location": where, "Cache-Control": "no-store"})

    def _conceal(self, exchange: Exchange, settings: Settings) -> None:
        """What is the gateway's own is not for the upstream, which could be somebody with it, and not for clients to say."""
        config, upstream = settings.config, exchange.service.request
        told = [(session_field(name), None) for name in config.session_request_headers or ()]
        if config.upstream_session_id_header:
            told.append((config.upstream_session_id_header, None))
        if told:
            upstream.set_headers(told)
        if upstream.get_header("cookie") is None:
            return
        values = upstream.get_headers()["cookie"]
        field = "; ".join(values) if isinstance(values, list) else values
        first = (*self._sessions.of(exchange, settings).cookie_names(), login_cookie(settings).name)
        own = [*first, *(f"{name}{number}" for name in first for number in range(2, MAX_COOKIES + 1))]
        if any(name in field for name in first):
            upstream.set_headers([("cookie", without(field, own) or None)])

    def _tell(
        self, exchange: Exchange, settings: Settings, sessions: Sessions, session: Session | None, subject: str | None
    ) -> None:
        config = settings.config
        upstream = [(session_field(name), name) for name in config.session_request_headers or ()]
        downstream = [(session_field(name), name) for name in config.session_response_headers or ()]
        if config.upstream_session_id_header:
            upstream.append((config.upstream_session_id_header, "id"))
        if config.downstream_session_id_header:
            downstream.append((config.downstream_session_id_header, "id"))
        if session is None or not (upstream or downstream):
            return
        facts: Mapping[str, str | None] = sessions.facts(session, subject)
        exchange.service.request.set_headers([(header, facts[name]) for header, name in upstream])
        exchange.response.set_headers([(header, facts[name]) for header, name in downstream if facts[name] is not None])


def login_cookie(settings: Settings) -> LoginCookie:
    """The cookie of a configuration's logins; made once."""
    if settings.login_cookie is None:
        settings.login_cookie = LoginCookie(settings.config, settings.login_sealer)
    return settings.login_cookie


def _subject(settings: Settings, grant: Grant) -> str | None:
    subject = claims.name_of(claims.find(grant, ("sub",)))
    if subject is not None and settings.config.session_hash_subject:
        return hashlib.sha256(subject.encode("utf-8", "surrogateescape")).hexdigest()
    return claims.header_text(subject)
