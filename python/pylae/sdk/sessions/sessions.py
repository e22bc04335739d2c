# SPDX-License-Identifier: Apache-2.0
"""When does a session begin, go on, and end?

It ends when it was not used for `idling_s`, when `rolling_s` are over since it was last renewed, and when `absolute_s` are
over since it began, whichever comes first; 0 stands for never. Use renews it: the cookie is written again once a tenth of
the idling time is over, and the rolling time begins anew once three quarters of it are. The id stays, so that a logout ends
every cookie that was given out for it; whoever logs in gets a new one, whatever cookie came (session fixation).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pylae.sdk.exchange import Exchange
from pylae.sdk.sessions.cookies import CookieFlags, cookies_of, joined, removed, split
from pylae.sdk.sessions.sealing import Sealer
from pylae.sdk.sessions.stores import Store

_FOR_EVER_S: Final = 10 * 365 * 86_400
_RENEWED_AFTER: Final = 0.75
_TOUCHED_AFTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long sessions last, in seconds; 0 for ever."""

    idling_s: float = 900
    rolling_s: float = 3_600
    absolute_s: float = 86_400
    stale_s: float = 10
    """How long the content of an id that was renewed is still to be had, for requests that are on their way."""


class _Sealed(msgspec.Struct, array_like=True):
    """What a cookie holds."""

    id: str
    audience: str
    begun_s: int
    rolled_s: int
    used_s: int
    is_remembered: bool
    content: Any


@dataclass(slots=True)
class Session:
    """One browser's session, open for the time of a request.

    Attributes:
        content: Whatever the plugin keeps; plain values only.
        is_remembered: It outlives the browser.
        subject: Whose it is, for the store's list; only `begin` and `renew` need it.
    """

    id: str
    content: Any
    begun_s: int
    rolled_s: int
    used_s: int
    is_remembered: bool = False
    subject: str | None = None

    def ends_s(self, timeouts: Timeouts) -> dict[str, int]:
        """When it ends by each of the timeouts, and at the first of them, in seconds since the epoch; 0 for never."""
        ends = {
            "idling-timeout": int(self.used_s + timeouts.idling_s) if timeouts.idling_s else 0,
            "rolling-timeout": int(self.rolled_s + timeouts.rolling_s) if timeouts.rolling_s else 0,
            "absolute-timeout": int(self.begun_s + timeouts.absolute_s) if timeouts.absolute_s else 0,
        }
        return {**ends, "timeout": min((end for end in ends.values() if end), default=0)}


class Sessions:
    """The sessions of one configuration.

    Args:
        now_ms: tells the time.
        sealer: makes and opens cookies.
        flags: the cookies' attributes.
        timeouts: how long sessions last.
        audience: what they are for; those of others are not accepted.
        store: keeps the content; None: the cookie does.
        remembered: flags and timeouts of sessions that outlive the browser.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        sealer: Sealer,
        flags: CookieFlags,
        timeouts: Timeouts,
        *,
        audience: str = "default",
        store: Store | None = None,
        remembered: tuple[CookieFlags, Timeouts] | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._sealer = sealer
        self._flags = flags
        self._timeouts = timeouts
        self._audience = audience
        self._store = store
        self._remembered = remembered

    def __repr__(self) -> str:
        return f"<sessions of {self._flags.name}>"

    def timeouts_of(self, session: Session) -> Timeouts:
        """How long it lasts."""
        return self._remembered[1] if session.is_remembered and self._remembered else self._timeouts

    def is_sent(self, exchange: Exchange) -> bool:
        """Did the browser send a cookie of ours, good or not?"""
        cookies = cookies_of(exchange)
        return any(flags.name in cookies for flags in self._all_flags())

    async def open(self, exchange: Exchange) -> Session | None:
        """The session of a request's cookies; None if there is none that is good.

        Raises:
            CallFailed, SystemUnavailable: the store could not be asked.
        """
        cookies = cookies_of(exchange)
        for flags in self._all_flags():
            text = joined(cookies, flags.name)
            session = None if text is None else await self._opened(text)
            if session is not None:
                return session
        return None

    async def _opened(self, text: str) -> Session | None:
        opened = self._sealer.open(text)
        if opened is None:
            return None
        try:
            sealed = msgspec.msgpack.decode(opened, type=_Sealed)
        except msgspec.DecodeError:
            return None
        if sealed.audience != self._audience:
            return None
        session = Session(sealed.id, sealed.content, sealed.begun_s, sealed.rolled_s, sealed.used_s, sealed.is_remembered)
        end = session.ends_s(self.timeouts_of(session))["timeout"]
        if end and end <= self._now_s():
            return None
        if self._store is None:
            return session
        kept = await self._store.load(session.id)
        content = None if kept is None else self._sealer.open(kept)
        if content is None:
            return None
        session.content = msgspec.msgpack.decode(content)
        return session

    def begin(self, content: Any, *, is_remembered: bool = False, subject: str | None = None) -> Session:
        """A session with an id that nobody had before; `write` gives it to the browser."""
        now_s, is_kept = self._now_s(), is_remembered and self._remembered is not None
        return Session(secrets.token_urlsafe(32), content, now_s, now_s, now_s, is_kept, subject)

    async def write(self, exchange: Exchange, session: Session) -> bool:
        """Saves a session and sets its cookies; False if it is too long for cookies.

        Raises:
            CallFailed, SystemUnavailable: the store did not take it.
        """
        if self._store is not None:
            text, lasts_s = self._sealed_content(session), self._lasts_s(session)
            await self._store.save(session.id, text, lasts_s, audience=self._audience, subject=session.subject)
        return self._set_cookies(exchange, session)

    async def use(self, exchange: Exchange, session: Session, *, is_changed: bool = False) -> None:
        """Notes that the session was used, and renews it when it is time.

        Args:
            exchange: The request that uses it.
            session: The session.
            is_changed: Its content is another now, and is to be kept.

        Raises:
            CallFailed, SystemUnavailable: the store could not be asked.
        """
        timeouts, now_s = self.timeouts_of(session), self._now_s()
        if timeouts.rolling_s and now_s - session.rolled_s >= timeouts.rolling_s * _RENEWED_AFTER:
            await self.renew(exchange, session)
        elif is_changed:
            session.used_s = now_s
            if self._store is not None:
                # Whoever has logged out meanwhile stays so.
                await self._store.change(session.id, self._sealed_content(session), self._lasts_s(session))
            self._set_cookies(exchange, session)
        elif timeouts.idling_s and now_s - session.used_s >= timeouts.idling_s * _TOUCHED_AFTER:
            session.used_s = now_s
            self._set_cookies(exchange, session)

    async def renew(self, exchange: Exchange, session: Session) -> None:
        """Gives the session a new rolling time.

        Its id stays: so a logout ends all cookies that were ever given out for it, those of a thief too.
        """
        session.rolled_s = session.used_s = self._now_s()
        if self._store is not None:
            # Whoever has logged out meanwhile stays so.
            await self._store.change(session.id, self._sealed_content(session), self._lasts_s(session))
        self._set_cookies(exchange, session)

    async def end(self, exchange: Exchange, session: Session | None) -> None:
        """Ends the session, for everybody who has its cookie, and takes the cookies away.

        Raises:
            CallFailed, SystemUnavailable: the store could not be asked.
        """
        if self._store is not None and session is not None:
            await self._store.delete(session.id)
        cookies = cookies_of(exchange)
        for flags in self._all_flags():
            for line in removed(flags, cookies):
                exchange.response.add_header("Set-Cookie", line)

    def facts(self, session: Session, subject: str | None) -> Mapping[str, str | None]:
        """What headers may say of it: `id`, `audience`, `subject`, and the seconds that are left by each timeout."""
        now_s = self._now_s()
        ends = session.ends_s(self.timeouts_of(session))
        left = {name: str(max(0, end - now_s)) if end else "0" for name, end in ends.items()}
        return {"id": session.id, "audience": self._audience, "subject": subject, **left}

    def cookie_names(self) -> tuple[str, ...]:
        """Names of the first cookies."""
        return tuple(flags.name for flags in self._all_flags())

    def _all_flags(self) -> tuple[CookieFlags, ...]:
        return (self._flags,) if self._remembered is None else (self._flags, self._remembered[0])

    def _now_s(self) -> int:
        return self._now_ms() // 1000

    def _lasts_s(self, session: Session) -> float:
        timeouts = self.timeouts_of(session)
        ends = session.ends_s(timeouts)
        end = min((ends[name] for name in ("rolling-timeout", "absolute-timeout") if ends[name]), default=0)
        return end - self._now_s() + timeouts.stale_s if end else _FOR_EVER_S

    def _sealed_content(self, session: Session) -> str:
        return self._sealer.seal(msgspec.msgpack.encode(session.content))

    def _set_cookies(self, exchange: Exchange, session: Session) -> bool:
        content = None if self._store is not None else session.content
        sealed = _Sealed(
            session.id, self._audience, session.begun_s, session.rolled_s, session.used_s, session.is_remembered, content
        )
        text = self._sealer.seal(msgspec.msgpack.encode(sealed))
        flags, max_age_s = self._flags, None
        if session.is_remembered and self._remembered is not None:
            flags, max_age_s = self._remembered[0], int(self._lasts_s(session))
        lines = split(text, flags, max_age_s)
        if lines is None:
            return False
        for line in lines:
            exchange.response.add_header("Set-Cookie", line)
        return True
