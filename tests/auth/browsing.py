# SPDX-License-Identifier: Apache-2.0
"""How does a browser act, with every request of its own seen?

For what Chromium does not let a test do: take cookies away, send a code twice, stop halfway through a login.
"""

from __future__ import annotations

import html
import re
import urllib.parse
from typing import Final

from tests.support.raw import Client, Reply, request

MAX_REDIRECTS: Final = 12
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
