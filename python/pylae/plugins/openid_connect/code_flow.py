# SPDX-License-Identifier: Apache-2.0
"""How does a browser log in, stay so, and log out? OpenID Connect Core, section 3.1; RFC 7636; RFC 9207.

The `BrowserFlow` of `parts`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from pylae.plugins.openid_connect import claims, logout, presented
from pylae.plugins.openid_connect.browser_sessions import BrowserSessions, Kept, bound_to, grant_of, kept_of
from pylae.plugins.openid_connect.login_state import Login, LoginCookie, new_login, origin_of
from pylae.plugins.openid_connect.parts import Core, Grant, ProviderClient, TokenRefused, Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import Host, bodies
from pylae.sdk.auth import SystemUnavailable, Verified
from pylae.sdk.exchange import Answer, Exchange
from pylae.sdk.sessions import Session
from pylae.sdk.sessions.cookies import without

OPENED: Final = "openid-connect.session"
"""In `exchange.ctx`: the session of this request."""
RETURNED: Final = "openid-connect.login"
"""In `exchange.ctx`: the login that this request ends."""
BEGINS_SESSION: Final = frozenset({"authorization_code", "password", "client_credentials", "refresh_token"})
"""Ways of authentication whose credential does not come with every request."""
OF_ANSWER: Final = ("code", "state", "iss", "session_state", "scope", "error", "error_description", "error_uri")
"""Arguments of an authorization response."""
REFRESHED_EARLIER_S: Final = 5
REFRESHED_KEPT_MS: Final = 60_000


class Flow:
    """The browser half of the plugin, in one worker."""

    def __init__(self, host: Host, core: Core) -> None:
        self._core = core
        self._sessions = BrowserSessions(host)
        self._now_ms = host.now_ms
        # Requests that come with one old cookie must not show one refresh token twice: the provider would take it for theft.
        self._refreshing: dict[bytes, asyncio.Task[Grant]] = {}
        self._refreshed: Verified[Grant] = Verified(host.now_ms, 1_024)

    def __repr__(self) -> str:
        return "<authorization code flow>"

    async def close(self) -> None:
        """Closes connections."""
        await self._sessions.close()

    async def intercept(self, exchange: Exchange, settings: Settings) -> Answer | Grant | None:
        """A logout, or the way back from the provider; None for any other request."""
        if logout.is_asked(exchange, settings):
            return await self._log_out(exchange, settings)
        if "authorization_code" not in settings.methods:
            return None
        said = _authorization_response(exchange, settings)
        state = said.get("state")
        if state is None or ("code" not in said and "error" not in said):
            return None
        cookie = login_cookie(settings)
        login = cookie.find(exchange, state, self._core.now_s())
        if login is None:
            # Not begun by this browser: whatever it brings is not looked at.
            return None
        others = [other for other in cookie.logins(exchange, self._core.now_s()) if other.state != login.state]
        for line in cookie.lines(exchange, others):
            exchange.response.add_header("Set-Cookie", line)
        if "error" in said:
            raise Unauthorized(f"the provider answered `{_word(said['error'])}` to the login")
        metadata = await self._core.metadata(settings)
        if "iss" in said and said["iss"] != metadata.get("issuer"):
            raise Unauthorized("the answer to the login is another issuer's")
        client = _client(settings, login.client)
        arguments = {"grant_type": "authorization_code", "code": said["code"], "redirect_uri": login.redirect_uri}
        if login.verifier is not None:
            arguments["code_verifier"] = login.verifier
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
        found = grant_of(session, settings)
        if found is None or found[1].bound_to != bound_to(exchange, settings):
            return None
        grant, kept = found
        if grant.expires_at_s is not None and grant.expires_at_s - REFRESHED_EARLIER_S <= self._core.now_s():
            renewed = await self._refresh(exchange, settings, grant, kept)
            if renewed is None:
                await sessions.end(exchange, session)
                return None
            grant = renewed
            session.content = kept_of(grant, kept.subject, kept.bound_to)
            await sessions.write(exchange, session)
        await self._core.read(settings, grant, verify=settings.config.reverify is True)
        exchange.ctx[OPENED] = session
        return grant

    async def _refresh(self, exchange: Exchange, settings: Settings, grant: Grant, kept: Kept) -> Grant | None:
        """A Grant with new tokens; None where there are none to be had."""
        if settings.config.refresh_tokens is False or grant.refresh_token is None or grant.client is None:
            return None
        digest = self._refreshed.digest(settings.tag, grant.refresh_token)
        renewed = self._refreshed.get(digest)
        if renewed is None:
            task = self._refreshing.get(digest)
            if task is None:
                arguments = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
                asked = self._core.redeem(exchange, settings, grant.client, "refresh_token", arguments)
                task = self._refreshing[digest] = asyncio.ensure_future(asked)
                task.add_done_callback(lambda done: self._note_refreshed(digest, done))
            try:
                renewed = await asyncio.shield(task)
            except TokenRefused:
                return None
        made = Grant("session", grant.client, granted_by=kept.granted_by)
        made.access_token, made.expires_at_s = renewed.access_token, renewed.expires_at_s
        made.id_token = renewed.id_token or grant.id_token
        made.refresh_token = renewed.refresh_token or grant.refresh_token
        return made

    def _note_refreshed(self, digest: bytes, task: asyncio.Task[Grant]) -> None:
        self._refreshing.pop(digest, None)
        if not task.cancelled() and task.exception() is None:
            self._refreshed.keep(digest, task.result(), None, self._now_ms() + REFRESHED_KEPT_MS)

    async def begin(self, exchange: Exchange, settings: Settings) -> Answer:
        """Sends the browser to the provider."""
        config = settings.config
        metadata = await self._core.metadata(settings)
        endpoint = metadata.get("authorization_endpoint")
        if not isinstance(endpoint, str):
            raise SystemUnavailable(f"token issuer {config.issuer}", "has no `authorization_endpoint`")
        client = self._core.client_of(exchange, settings)
        login = new_login(
            _redirect_uri(exchange, settings, client),
            client.index,
            exchange.request.path_with_query,
            self._core.now_s(),
            has_verifier=_uses_pkce(settings, metadata),
        )
        cookie = login_cookie(settings)
        lines = cookie.lines(exchange, [*cookie.logins(exchange, self._core.now_s()), login])
        asked = urlencode(_authorization_request(exchange, settings, client, login))
        where = f"{endpoint}{'&' if '?' in endpoint else '?'}{asked}"
        return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store", "Set-Cookie": lines})

    async def establish(self, exchange: Exchange, settings: Settings, grant: Grant) -> Answer | None:
        """The client may pass: its session begins or goes on, `login_action` may answer."""
        config = settings.config
        sessions = self._sessions.of(exchange, settings)
        session = exchange.ctx.get(OPENED)
        subject = _subject(settings, grant)
        if isinstance(session, Session):
            await sessions.use(exchange, session)
        elif self._begins_session(settings, grant):
            content = kept_of(grant, subject, bound_to(exchange, settings))
            # Whatever cookie came: a login gets an id that nobody knows.
            session = sessions.begin(content, is_remembered=config.session_remember is True, subject=subject)
            if not await sessions.write(exchange, session):
                exchange.log("error", "openid-connect: the tokens are too long for cookies; hint: session_storage=redis")
                session = None
        self._hide_cookies(exchange, settings, sessions.cookie_names())
        self._tell(exchange, settings, session if isinstance(session, Session) else None, subject)
        login = exchange.ctx.get(RETURNED)
        if isinstance(login, Login):
            _restore_query(exchange, settings, login)
        if grant.method in (config.login_methods or ()):
            return self._act(exchange, settings, grant, login if isinstance(login, Login) else None)
        return None

    def _begins_session(self, settings: Settings, grant: Grant) -> bool:
        disabled = settings.config.disable_session or ()
        return "session" in settings.methods and grant.method in BEGINS_SESSION and grant.method not in disabled

    def _act(self, exchange: Exchange, settings: Settings, grant: Grant, login: Login | None) -> Answer | None:
        """What follows a login."""
        config = settings.config
        if config.login_action == "response":
            return exchange.answer(200, _handed_over(settings, grant), {"Cache-Control": "no-store"})
        if config.login_action != "redirect":
            return None
        uris = config.login_redirect_uri or []
        index = 0 if grant.client is None else max(grant.client.index, 0)
        if uris:
            where = uris[index] if index < len(uris) else uris[0]
            tokens = urlencode({name: value for name, value in _handed_over(settings, grant).items() if isinstance(value, str)})
            mark = "#" if config.login_redirect_mode != "query" else "&" if "?" in where else "?"
            where = f"{where}{mark}{tokens}" if tokens else where
        elif login is not None:
            # Its own origin, whatever the path looks like: `//elsewhere` is no address here.
            where = origin_of(exchange) + "/" + login.target.lstrip("/")
        else:
            return None
        return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store"})

    async def end(self, exchange: Exchange, settings: Settings) -> None:
        """The client may not pass, and its session ends with that."""
        session = exchange.ctx.pop(OPENED, None)
        if isinstance(session, Session):
            await self._sessions.of(exchange, settings).end(exchange, session)

    async def _log_out(self, exchange: Exchange, settings: Settings) -> Answer:
        sessions = self._sessions.of(exchange, settings)
        session = await sessions.open(exchange) if sessions.is_sent(exchange) else None
        found = None if session is None else grant_of(session, settings)
        await sessions.end(exchange, session)
        client = settings.clients[0]
        id_token: str | None = None
        if found is not None:
            client, id_token = found[0].client or client, found[0].id_token
            await logout.revoke(self._core, settings, found[0], exchange)
        where = logout.destination(settings, await self._core.metadata(settings), client, id_token)
        if where is None:
            return exchange.answer(200, None, {"Cache-Control": "no-store"})
        return exchange.answer(302, None, {"Location": where, "Cache-Control": "no-store"})

    def _hide_cookies(self, exchange: Exchange, settings: Settings, names: tuple[str, ...]) -> None:
        """The gateway's own cookies are not for the upstream: it could be somebody with them."""
        field = exchange.service.request.get_header("cookie")
        if not field:
            return
        own = {*names, login_cookie(settings).name}
        numbered = {f"{name}{number}" for name in own for number in range(2, 10)}
        kept = without(field, [*own, *numbered])
        if kept != field:
            exchange.service.request.set_headers([("cookie", kept or None)])

    def _tell(self, exchange: Exchange, settings: Settings, session: Session | None, subject: str | None) -> None:
        config = settings.config
        names = [*(config.session_request_headers or ()), *(config.session_response_headers or ())]
        if not names and not config.upstream_session_id_header and not config.downstream_session_id_header:
            return
        facts: Mapping[str, str | None] = {}
        if session is not None:
            facts = self._sessions.of(exchange, settings).facts(session, subject)
        upstream = [(_header_name(name), facts.get(name)) for name in config.session_request_headers or ()]
        if config.upstream_session_id_header:
            upstream.append((config.upstream_session_id_header, facts.get("id")))
        exchange.service.request.set_headers(upstream)
        downstream = [(_header_name(name), facts.get(name)) for name in config.session_response_headers or ()]
        if config.downstream_session_id_header:
            downstream.append((config.downstream_session_id_header, facts.get("id")))
        exchange.response.set_headers([field for field in downstream if field[1] is not None])


def login_cookie(settings: Settings) -> LoginCookie:
    """The cookie of a configuration's logins; made once."""
    if settings.login_cookie is None:
        settings.login_cookie = LoginCookie(settings.config, settings.login_sealer)
    made: LoginCookie = settings.login_cookie
    return made


def _authorization_response(exchange: Exchange, settings: Settings) -> dict[str, str]:
    """What the provider says through the browser, in the place where it was asked to."""
    request = exchange.request
    if settings.config.response_mode == "form_post":
        if request.method != "POST" or bodies.media_type(request.get_header("content-type")) != bodies.FORM:
            return {}
        said: Mapping[str, Any] = presented.arguments_of(exchange)
    else:
        if request.method not in ("GET", "HEAD") or not request.raw_query:
            return {}
        said = request.get_query()
    # Of a repeated argument nobody can say which one is meant.
    return {name: value for name, value in said.items() if name in OF_ANSWER and isinstance(value, str)}


def _redirect_uri(exchange: Exchange, settings: Settings, client: ProviderClient) -> str:
    uris = settings.config.redirect_uri or []
    if uris:
        return uris[client.index] if client.index < len(uris) else uris[0]
    return origin_of(exchange) + exchange.request.raw_path


def _uses_pkce(settings: Settings, metadata: Mapping[str, Any]) -> bool:
    said = settings.config.require_proof_key_for_code_exchange
    return "S256" in (metadata.get("code_challenge_methods_supported") or ()) if said is None else said


def _authorization_request(exchange: Exchange, settings: Settings, client: ProviderClient, login: Login) -> dict[str, str]:
    config = settings.config
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": login.redirect_uri,
        "scope": " ".join(config.scopes or ("openid",)),
        "state": login.state,
        "nonce": login.nonce,
    }
    if login.verifier is not None:
        asked |= {"code_challenge": login.challenge, "code_challenge_method": "S256"}
    if config.response_mode == "form_post":
        asked["response_mode"] = "form_post"
    if config.audience:
        asked["audience"] = " ".join(config.audience)
    if config.max_age is not None:
        asked["max_age"] = str(int(config.max_age))
    own = dict(zip(config.authorization_query_args_names or (), config.authorization_query_args_values or (), strict=False))
    passed = {
        name: value
        for name in config.authorization_query_args_client or ()
        if (value := presented.find(exchange, name, ("query", "body"))) is not None
    }
    # Neither may change what the login rests on.
    return {**passed, **own, **asked}


def _restore_query(exchange: Exchange, settings: Settings, login: Login) -> None:
    """Takes the provider's answer out of what goes upstream, and puts back what was first asked for."""
    request = exchange.service.request
    query = [(name, value) for name, value in parse_qsl(request.raw_query, keep_blank_values=True) if name not in OF_ANSWER]
    if settings.config.preserve_query_args:
        names = {name for name, _ in query}
        first = parse_qsl(login.target.partition("?")[2], keep_blank_values=True)
        query += [(name, value) for name, value in first if name not in names]
    request.set_raw_query(urlencode(query))


def _handed_over(settings: Settings, grant: Grant) -> dict[str, Any]:
    """The tokens that `login_tokens` names."""
    found: dict[str, Any] = {}
    for name in settings.config.login_tokens or ():
        match name:
            case "tokens":
                found |= dict(grant.response or {})
            case "introspection" if grant.introspection is not None:
                found["introspection"] = dict(grant.introspection)
            case "id_token" | "access_token" | "refresh_token" if getattr(grant, name) is not None:
                found[name] = getattr(grant, name)
    return found


def _client(settings: Settings, index: int) -> ProviderClient:
    if not 0 <= index < len(settings.clients):
        raise Unauthorized("the login was begun under another configuration")
    return settings.clients[index]


def _subject(settings: Settings, grant: Grant) -> str | None:
    subject = claims.name_of(claims.find(grant, ("sub",)))
    if subject is not None and settings.config.session_hash_subject:
        return hashlib.sha256(subject.encode("utf-8", "surrogateescape")).hexdigest()
    return subject


def _header_name(name: str) -> str:
    return "Session-" + "-".join(part.capitalize() for part in name.split("-"))


def _word(text: str) -> str:
    return text if text.isascii() and text.isprintable() and len(text) < 64 else "something else"
