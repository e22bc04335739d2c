# SPDX-License-Identifier: Apache-2.0
"""Which access token does a request come with, and how is it kept from the upstream? RFC 6750, section 2."""

from __future__ import annotations

from typing import Any, Final

from pylae.plugins.oauth2.parameters import ACCESS_TOKEN, body_fields, without_field
from pylae.sdk import Exchange, bodies

SCHEMES: Final = ("bearer", "token")


class Presented:
    """The different tokens of a request, and where they are."""

    __slots__ = ("in_body", "in_header", "in_query", "tokens")

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.in_header = self.in_query = self.in_body = False

    def hide(self, exchange: Exchange, header: str) -> None:
        """Takes them out of what goes upstream."""
        upstream = exchange.service.request
        if self.in_header:
            upstream.clear_header(header)
            exchange.request.conceal_header(header)
        if self.in_query:
            upstream.set_raw_query(bodies.without_argument(upstream.raw_query, ACCESS_TOKEN))
        if self.in_body and exchange.request.body:
            content_type = exchange.request.get_header("content-type") or ""
            body = without_field(exchange.request.body, content_type, ACCESS_TOKEN)
            if body is not None:
                upstream.set_body(body)


def token_of(value: str) -> str | None:
    """The token of a field that says `Bearer ...` or `Token ...`; None for anything else."""
    words = value.split()
    return words[1] if len(words) == 2 and words[0].lower() in SCHEMES else None


def presented_by(exchange: Exchange, header: str) -> Presented:
    """All tokens in the header and the query; those of the body only where there is none."""
    request = exchange.request
    presented = Presented()
    for value in request.get_header_values(header):
        token = token_of(value)
        if token is not None:
            presented.in_header = True
            presented.tokens.add(token)
    if request.raw_query:
        found = _texts(request.get_query().get(ACCESS_TOKEN))
        presented.in_query = bool(found)
        if found:
            request.conceal_argument(ACCESS_TOKEN)
        presented.tokens |= found
    if not presented.tokens:
        found = _texts(body_fields(exchange).get(ACCESS_TOKEN))
        presented.in_body = bool(found)
        presented.tokens |= found
    return presented


def _texts(value: Any) -> set[str]:
    return {text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text}
