# SPDX-License-Identifier: Apache-2.0
"""Where in a request is a token?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pylae.sdk import Exchange

Found = str | Literal[True] | None


def bearer_of(value: str) -> str | None:
    """The token of an `Authorization: Bearer ...` (RFC 6750, section 2.1); None for another scheme."""
    if value[:7].lower() == "bearer ":
        return value[7:].strip() or None
    return None


def tokens_of(
    exchange: Exchange, arguments: Sequence[str], cookies: Sequence[str], headers: Sequence[str]
) -> set[str | Literal[True]]:
    """The different tokens of a request; `True` stands for an argument without a value."""
    request = exchange.request
    found: set[str | Literal[True]] = set()
    if arguments and request.raw_query:
        query = request.get_query()
        for name in arguments:
            value = query.get(name)
            found.update(value if isinstance(value, list) else () if value is None else (value,))
    if cookies:
        found.update(_cookies(request.get_header_values("cookie"), cookies))
    for name in headers:
        for value in request.get_header_values(name):
            token = bearer_of(value)
            if token is not None:
                found.add(token)
    found.discard("")
    return found


def _cookies(values: Iterable[str], names: Sequence[str]) -> set[str]:
    """Values of the cookies of these names (RFC 6265, section 4.2.1), quotes taken off."""
    found = set()
    for value in values:
        for pair in value.split(";"):
            name, _, content = pair.strip().partition("=")
            if name in names:
                found.add(content.strip('"'))
    return found
