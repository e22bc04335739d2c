# SPDX-License-Identifier: Apache-2.0
"""Which logins has a browser begun, and is this the way back from one of them?

What has to be remembered of a login (its `state`, its nonce, the verifier of RFC 7636) is sealed in a cookie, so that
only the browser that began it can end it: whoever lures another browser to an answer of the provider's gets nowhere
(RFC 6749, section 10.12).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from pylae.plugins.openid_connect.config import Config
from pylae.sdk.auth import equals
from pylae.sdk.exchange import Exchange
from pylae.sdk.sessions import CookieFlags, Sealer
from pylae.sdk.sessions.cookies import cookies_of, joined, removed, split

MAX_LOGINS: Final = 5
"""Of one browser, in several tabs; the oldest is forgotten."""
MAX_TARGET_CHARACTERS: Final = 1_024
_PLAIN: Final = "!$%&'()*+,-./:;=?@[]_~"
_USUAL_PORTS: Final = {"http": "80", "https": "443"}


class Login(msgspec.Struct, array_like=True):
    """One login that was begun.

    Attributes:
        state: What the provider gives back.
        nonce: What the id token must say.
        verifier: What proves that the code is ours (PKCE); None where it is not used.
        redirect_uri: As the provider was told.
        client: Index of the provider's client.
        target: Path and query that were asked for.
        begun_s: When, in seconds since the epoch.
    """

    state: str
    nonce: str
    verifier: str | None
    redirect_uri: str
    client: int
    target: str
    begun_s: int

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier: its S256."""
        digest = hashlib.sha256((self.verifier or "").encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def new_login(redirect_uri: str, client: int, target: str, now_s: float, *, has_verifier: bool) -> Login:
    """A login with texts nobody can guess."""
    verifier = secrets.token_urlsafe(48) if has_verifier else None
    target = plain_target(target)
    if len(target) > MAX_TARGET_CHARACTERS:
        target = target.partition("?")[0][:MAX_TARGET_CHARACTERS]
    return Login(secrets.token_urlsafe(24), secrets.token_urlsafe(24), verifier, redirect_uri, client, target, int(now_s))


class LoginCookie:
    """The cookie that holds a browser's logins.

    Args:
        config: Its attributes.
        sealer: Seals it.
    """

    def __init__(self, config: Config, sealer: Sealer) -> None:
        self._config = config
        self._sealer = sealer
        self._lasts_s = config.authorization_rolling_timeout or 600

    def __repr__(self) -> str:
        return f"<login cookie {self.name}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._config.authorization_cookie_name or "authorization"

    def logins(self, exchange: Exchange, now_s: float) -> list[Login]:
        """Those that have been begun and are not too old."""
        text = joined(cookies_of(exchange), self.name)
        opened = None if text is None else self._sealer.open(text)
        if opened is None:
            return []
        try:
            logins = msgspec.msgpack.decode(opened, type=list[Login])
        except msgspec.DecodeError:
            return []
        return [login for login in logins if now_s < login.begun_s + self._lasts_s]

    def find(self, exchange: Exchange, state: str, now_s: float) -> Login | None:
        """The login whose `state` this is."""
        return next((login for login in self.logins(exchange, now_s) if equals(login.state, state)), None)

    def lines(self, exchange: Exchange, logins: Sequence[Login]) -> list[str]:
        """The `Set-Cookie` values that hold these logins, or that end the cookie where there is none."""
        flags = self._flags(exchange)
        if not logins:
            return removed(flags, cookies_of(exchange))
        kept = list(logins[-MAX_LOGINS:])
        while kept:
            lines = split(self._sealer.seal(msgspec.msgpack.encode(kept)), flags, None)
            if lines is not None:
                return lines
            kept.pop(0)
        return []

    def _flags(self, exchange: Exchange) -> CookieFlags:
        config = self._config
        secure = config.authorization_cookie_secure
        is_secure = scheme_of(exchange) == "https" if secure is None else secure
        same_site = config.authorization_cookie_same_site or "Default"
        if same_site == "Default" and is_secure and config.response_mode == "form_post":
            # The provider's page posts the answer from another site; browsers send such a cookie over TLS only.
            same_site = "None"
        return CookieFlags(
            self.name,
            config.authorization_cookie_path or "/",
            config.authorization_cookie_domain,
            same_site,
            config.authorization_cookie_http_only is not False,
            is_secure,
        )


def plain_target(target: str) -> str:
    r"""A path and query that begins with one `/` and holds plain characters, so that no browser takes it for another origin.

    >>> plain_target("//evil.test/a?b=%2f"), plain_target("/\\evil.test")
    ('/evil.test/a?b=%2f', '/%5Cevil.test')
    """
    return "/" + quote(target.lstrip("/"), safe=_PLAIN, errors="surrogateescape")


def scheme_of(exchange: Exchange) -> str:
    """How the browser came: what a trusted proxy in front says counts."""
    return exchange.client.forwarded_protocol.partition(",")[0].strip().lower()


def origin_of(exchange: Exchange) -> str:
    """Scheme, host and port as the browser knows them, as far as that can be told."""
    request, scheme = exchange.request, scheme_of(exchange)
    if scheme == exchange.client.protocol:
        return origin(scheme, request.host, str(request.port))
    # Only of a proxy in `trusted_ips` is it believed that there was another scheme; our own port is not the browser's then.
    host = request.get_header("x-forwarded-host") or request.host
    return origin(scheme, host, request.get_header("x-forwarded-port") or _USUAL_PORTS.get(scheme, ""))


def origin(scheme: str, host: str, port: str) -> str:
    """An origin of what proxies say; of several the first, and a port with the host counts for more than one without.

    >>> origin("https", "shop.test", "443"), origin("http", "shop.test:8080, inner.test", "80"), origin("http", "::1", "8000")
    ('https://shop.test', 'http://shop.test:8080', 'http://[::1]:8000')
    """
    host, port = host.partition(",")[0].strip(), port.partition(",")[0].strip()
    name, colon, own_port = host.rpartition(":")
    if colon and own_port.isdecimal() and (":" not in name or name.endswith("]")):
        host, port = name, own_port
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    is_usual = port == _USUAL_PORTS.get(scheme)
    return f"{scheme}://{host}" if is_usual else f"{scheme}://{host}:{port}"
