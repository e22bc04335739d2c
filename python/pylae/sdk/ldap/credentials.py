# SPDX-License-Identifier: Apache-2.0
"""Which username and password does a header hold? `<type> base64(username:password)`, as RFC 7617 has it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from pylae.sdk.exchange import Exchange

HEADERS: Final = ("Proxy-Authorization", "Authorization")
"""Where credentials may be, in the order they are tried."""
MAX_BYTES: Final = 1_024
"""Longest username, and longest password; no directory's are longer."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client claims: a username that may be part of a header, and a password that is not empty."""

    username: str
    password: bytes = field(repr=False)


def credentials_in(exchange: Exchange, scheme: str) -> tuple[list[Credentials], bool]:
    """What the request's headers hold that could be credentials, and whether they hold anything of this scheme at all.

    Nothing comes of a header that is repeated: who comes later might read the other one. Nor of an empty password, which
    an LDAP server takes for no password at all and lets pass (RFC 4513, section 5.1.2); nor of NUL anywhere, where some
    servers end their text; nor of a username that is no UTF-8, holds control characters or has spaces round it, which
    servers leave out when they compare.

    Args:
        exchange: whose request is meant.
        scheme: what stands before the credentials, in lower case.
    """
    found: list[Credentials] = []
    is_claimed = False
    for header in HEADERS:
        values = exchange.request.get_header_values(header)
        ours = [encoded for value in values if (encoded := _after_scheme(value, scheme)) is not None]
        is_claimed = is_claimed or bool(ours)
        if len(values) == 1 and ours and (credentials := _decoded(ours[0])) is not None:
            found.append(credentials)
    return found, is_claimed


def _after_scheme(value: str, scheme: str) -> str | None:
    said, _, encoded = value.strip().partition(" ")
    return encoded.strip() if said.lower() == scheme else None


def _decoded(encoded: str) -> Credentials | None:
    try:
        octets = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    name, colon, password = octets.partition(b":")
    if not colon or not name or not password or max(len(name), len(password)) > MAX_BYTES or b"\0" in octets:
        return None
    try:
        username = name.decode()
    except UnicodeDecodeError:
        return None
    if username != username.strip() or any(character < " " or "\x7f" <= character <= "\x9f" for character in username):
        return None
    return Credentials(username, password)
