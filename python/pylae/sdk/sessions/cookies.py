# SPDX-License-Identifier: Apache-2.0
"""How does a long value travel in cookies? RFC 6265: 4,096 bytes each, of which as many as are needed are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pylae.sdk.exchange import Exchange

MAX_VALUE_CHARACTERS: Final = 3_840
"""Of one cookie: with name and attributes it stays below the 4,096 bytes that browsers keep."""
MAX_COOKIES: Final = 9
"""A longer value is not given out, and not read."""
_COUNTS: Final = frozenset(str(count) for count in range(2, MAX_COOKIES + 1))


@dataclass(frozen=True, slots=True)
class CookieFlags:
    """The attributes of a cookie."""

    name: str
    path: str = "/"
    domain: str | None = None
    same_site: str = "Lax"
    """`Strict`, `Lax` or `None`; `Default` sends no attribute."""
    is_http_only: bool = True
    is_secure: bool = True

    def line(self, name: str, value: str, max_age_s: int | None) -> str:
        """One `Set-Cookie` value; without `max_age_s` the cookie ends with the browser, with 0 at once."""
        parts = [f"{name}={value}", f"Path={self.path}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if max_age_s is not None:
            parts.append(f"Max-Age={max_age_s}")
        if self.same_site != "Default":
            parts.append(f"SameSite={self.same_site}")
        if self.is_secure:
            parts.append("Secure")
        if self.is_http_only:
            parts.append("HttpOnly")
        return "; ".join(parts)


def cookies_of(exchange: Exchange) -> dict[str, str]:
    """Names and values of a request's cookies; of a name that comes twice the first one.

    That is the one of the more specific path (RFC 6265, section 5.4).
    """
    found: dict[str, str] = {}
    for field in exchange.request.get_header_values("cookie"):
        for pair in field.split(";"):
            name, equals, value = pair.strip(" \t").partition("=")
            if equals and name:
                found.setdefault(name, value.strip('"'))
    return found


def joined(cookies: dict[str, str], name: str) -> str | None:
    """The value that `split` made several of."""
    first = cookies.get(name)
    if not first:
        return None
    count, dot, rest = first.partition(".")
    if not dot:
        return first
    if count not in _COUNTS:
        return None
    parts = [rest, *(cookies.get(f"{name}{number}", "") for number in range(2, int(count) + 1))]
    return "".join(parts) if all(parts) else None


def split(value: str, flags: CookieFlags, max_age_s: int | None) -> list[str] | None:
    """The `Set-Cookie` values for a value; None if it is too long for as many as are allowed."""
    if len(value) <= MAX_VALUE_CHARACTERS:
        return [flags.line(flags.name, value, max_age_s)]
    parts = [value[at : at + MAX_VALUE_CHARACTERS] for at in range(0, len(value), MAX_VALUE_CHARACTERS)]
    if len(parts) > MAX_COOKIES:
        return None
    first, *others = parts
    lines = [flags.line(flags.name, f"{len(parts)}.{first}", max_age_s)]
    return lines + [flags.line(f"{flags.name}{number}", part, max_age_s) for number, part in enumerate(others, 2)]


def removed(flags: CookieFlags, cookies: dict[str, str]) -> list[str]:
    """The `Set-Cookie` values that end all cookies of a value."""
    names = [flags.name, *(f"{flags.name}{number}" for number in range(2, MAX_COOKIES + 1))]
    return [flags.line(name, "", 0) for name in names if name in cookies or name == flags.name]


def without(field: str, names: Sequence[str]) -> str:
    """A `Cookie` field without these, for an upstream that they are not for."""
    kept = [pair.strip() for pair in field.split(";") if pair.strip().partition("=")[0] not in names]
    return "; ".join(pair for pair in kept if pair)
