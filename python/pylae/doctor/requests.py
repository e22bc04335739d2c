# SPDX-License-Identifier: Apache-2.0
"""Which request does a user mean, and what of it may be sent?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from pylae.doctor.answers import Header
from pylae.doctor.configured import CannotLook

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_METHOD: Final = re.compile(r"[A-Z]{1,32}\Z")
_ID: Final = re.compile(r"[0-9a-fA-F]{32}\Z")
_NOT_SENT_ON: Final = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"})
"""What belongs to one connection alone."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a client would send it.

    Attributes:
        authority: host and port as in the Host header.
        path: as sent, with query.
    """

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    method: str = "GET"
    headers: Sequence[Header] = ()
    body: bytes = b""

    @property
    def url(self) -> str:
        """The URL."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def bare_path(self) -> str:
        """Without its query."""
        return self.path.partition("?")[0]

    @property
    def query(self) -> str | None:
        """None when there is none."""
        _, mark, query = self.path.partition("?")
        return query if mark else None

    def header(self, name: str) -> str | None:
        """A header that the user gave."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def sent_on(self) -> list[Header]:
        """Headers that the gateway would pass on."""
        return [(name, value) for name, value in self.headers if name.lower() not in _NOT_SENT_ON]


def request_of(url: str, headers: Sequence[Header] = (), body: bytes = b"", method: str = "") -> Request:
    """The request for a URL.

    Raises:
        CannotLook: it is no URL of http or https.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise CannotLook(f"`{url}` is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise CannotLook(f"expected a URL such as https://shop.example/orders, got `{url}`")
    usual = 443 if parts.scheme == "https" else 80
    bare = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?[]')}" if parts.query else ""
    own_host = next((value for name, value in headers if name.lower() == "host"), None)
    return Request(
        scheme=parts.scheme,
        host=host,
        port=port or usual,
        authority=own_host or (bare if port in (None, usual) else f"{bare}:{port}"),
        path=f"{path}{query}",
        method=method or ("POST" if body else "GET"),
        headers=[(name, value) for name, value in headers if name.lower() != "host"],
        body=body,
    )


def header_of(text: str) -> Header:
    """A header of `Name: value`.

    Raises:
        CannotLook: it is none, or would be more than one line.
    """
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.match(name.strip()) or any(letter in value for letter in "\r\n\0"):
        raise CannotLook(f"expected a header such as `Accept: text/html`, got `{name.strip()}`")
    return name.strip(), value.strip()


def request_id_of(text: str) -> str:
    """A request's id.

    Raises:
        CannotLook: it is none.
    """
    if not _ID.match(text):
        raise CannotLook(f"expected 32 hexadecimal digits, as in X-Kong-Request-Id, got `{text}`")
    return text.lower()


def method_of(text: str) -> str:
    """A method in capital letters.

    Raises:
        CannotLook: it is none.
    """
    if not _METHOD.match(text.upper()):
        raise CannotLook(f"expected a method such as POST, got `{text}`")
    return text.upper()
