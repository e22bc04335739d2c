# SPDX-License-Identifier: Apache-2.0
"""How does a browser act, with every request of its own seen?

For what Chromium does not let a test do: take cookies away, send a code twice, stop halfway through a login.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin
from tests.support.raw import Client, Reply, request
from tests.support.servers.oidc_provider import GATEWAY, GATEWAY_SECRET, OidcProvider

MAX_REDIRECTS: Final = 12
MAX_PAGES: Final = 40
"""Addresses that the provider knows."""
_FORM: Final = re.compile(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_INPUT: Final = re.compile(r'<input[^>]*name="([^"]*)"(?:[^>]*value="([^"]*)")?')


class Agent:
    """Somebody with cookies; every name is this machine.

    Attributes:
        cookies: By origin, then by name. Paths and attributes are not looked at.
        url: Where the last reply came from.
        trail: Every address asked for.
    """

    def __init__(self) -> None:
        self.cookies: dict[str, dict[str, str]] = {}
        self.url = ""
        self.trail: list[str] = []

    def ask(self, url: str, *lines: str, method: str = "GET", form: dict[str, str] | None = None) -> Reply:
        """One request, with cookies; redirects are not followed."""
        place = urllib.parse.urlsplit(url)
        origin, port = f"{place.scheme}://{place.netloc}", place.port
        assert port, f"an address without port: {url}"
        known = self.cookies.setdefault(origin, {})
        fields = list(lines)
        if known:
            fields.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in known.items()))
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form).encode()
            fields.append("Content-Type: application/x-www-form-urlencoded")
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        client = Client.tls(port, place.hostname) if place.scheme == "https" else Client(port)
        with client:
            reply = client.send(request(method, target, *fields, host=place.netloc, body=body)).read_reply(method)
        for line in reply.all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if value:
                known[name] = value
            else:
                known.pop(name, None)
        self.url = url
        self.trail.append(url)
        return reply

    def follow(self, reply: Reply, until: str | None = None) -> Reply:
        """What redirects lead to; `until` is the beginning of an address that is not asked for any more."""
        for _ in range(MAX_REDIRECTS):
            if reply.status not in (302, 303):
                return reply
            where = urllib.parse.urljoin(self.url, reply.header("location"))
            if until is not None and where.startswith(until):
                self.url = where
                return reply
            reply = self.ask(where)
        raise AssertionError(f"redirected in circles: {self.trail[-MAX_REDIRECTS:]}")

    def go(self, url: str, until: str | None = None) -> Reply:
        """A page, redirects followed."""
        return self.follow(self.ask(url), until)

    def submit(self, page: Reply, until: str | None = None, **fields: str) -> Reply:
        """What the first form of a page leads to."""
        found = _FORM.search(page.text)
        assert found, f"no form in {page.text[:500]}"
        action = urllib.parse.urljoin(self.url, html.unescape(found[1]))
        form = {html.unescape(name): html.unescape(value or "") for name, value in _INPUT.findall(found[2])}
        return self.follow(self.ask(action, method="POST", form={**form, **fields}), until)

    def log_in(self, url: str, name: str, until: str | None = None) -> Reply:
        """What the login of a user leads to, the provider's questions answered."""
        page = self.go(url, until)
        for fields in ({"login": name, "password": f"{name}s-own"}, {}):
            # Who has agreed before is not asked again.
            if "<form" in page.text and "/interaction/" in self.url:
                page = self.submit(page, until, **fields)
        return page

    def cookie(self, url: str, name: str) -> str | None:
        """A cookie of this origin."""
        place = urllib.parse.urlsplit(url)
        return self.cookies.get(f"{place.scheme}://{place.netloc}", {}).get(name)


class Shop:
    """A site behind the gateway whose pages ask for a login at the provider.

    Attributes:
        base: Scheme, host and port, without TLS.
        base_tls: The same with it.
    """

    def __init__(
        self, gateway: Gateway, blueprints: Blueprints, echo: Origin, provider: OidcProvider, name: str = "page"
    ) -> None:
        self.gateway, self.blueprints, self.origin, self.provider = gateway, blueprints, echo, provider
        self.base, self.base_tls = bases_of(gateway)
        self._name, self._numbers = name, itertools.count()

    def page(self, route: dict[str, Any] | None = None, origin: Origin | None = None, **config: Any) -> str:
        """The address of a page of its own; what is not said has a sensible value."""
        number = next(self._numbers)
        assert number < MAX_PAGES, "the provider knows no more addresses"
        path = f"/{self._name}-{number}"
        defaults = {
            "issuer": self.provider.issuer,
            "client_id": [GATEWAY],
            "client_secret": [GATEWAY_SECRET],
            "auth_methods": ["authorization_code", "session"],
            # A refresh token is given to whom the user agrees to anew (OpenID Connect Core, section 11).
            "scopes": ["openid", "profile", "offline_access"],
            "authorization_query_args_names": ["prompt"],
            "authorization_query_args_values": ["consent"],
            "upstream_headers_claims": ["sub"],
            "upstream_headers_names": ["X-Sub"],
        }
        fields = {"paths": [path], "strip_path": False, **(route or {})}
        self.blueprints.plugged(origin or self.origin, "openid-connect", fields, **{**defaults, **config})
        return self.base + path

    @property
    def user(self) -> str | None:
        """Whom the upstream was told of last."""
        return self.origin.last.header("X-Sub")


def bases_of(gateway: Gateway) -> tuple[str, str]:
    """Where the shop is, without TLS and with it."""
    return f"http://shop.test:{gateway.proxy_port}", f"https://shop.test:{gateway.proxy_tls_port}"


@contextlib.contextmanager
def open_shop(gateway: Gateway, blueprints: Blueprints, echo: Origin, name: str = "page", **provider: Any) -> Iterator[Shop]:
    """A shop with a provider of its own; of several at one gateway each has a name."""
    base, base_tls = bases_of(gateway)
    uris = [f"{one}/{name}-{number}" for one in (base, base_tls) for number in range(MAX_PAGES)]
    with OidcProvider(redirect_uris=uris, post_logout_redirect_uris=[f"{base}/bye"], **provider) as server:
        yield Shop(gateway, blueprints, echo, server, name)
