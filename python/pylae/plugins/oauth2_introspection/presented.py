# SPDX-License-Identifier: Apache-2.0
"""Which token does a request come with, and how is it kept from the upstream? RFC 6750, section 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.sdk import Exchange, bodies

MAX_TOKEN_CHARACTERS: Final = 16_384
ARGUMENT: Final = "access_token"
HEADER: Final = "authorization"
SCHEMES: Final = ("bearer", "token")


def token_of(exchange: Exchange) -> str | None:
    """The token of a request; None for none, an empty text for what cannot be meant: two of them, or what is no token."""
    request = exchange.request
    found: list[Any] = []
    values = request.get_header_values(HEADER)
    for value in values:
        scheme, _, token = value.partition(" ")
        if scheme.lower() in SCHEMES:
            # Two fields, and nobody can say which is meant.
            found.append(token.strip() if len(values) == 1 else "")
    if request.raw_query and (argument := request.get_query().get(ARGUMENT)) is not None:
        request.conceal_argument(ARGUMENT)
        found.append(argument)
    if not found and (field := fields_of(exchange).get(ARGUMENT)) is not None:
        found.append(field)
    if not found:
        return None
    token = found[0]
    # The upstream might look at the other one.
    return token if isinstance(token, str) and may_be_token(token) and all(other == token for other in found) else ""


def may_be_token(text: str) -> bool:
    """Visible ASCII, and not beyond reason."""
    return 0 < len(text) <= MAX_TOKEN_CHARACTERS and text.isascii() and text.isprintable() and " " not in text


def fields_of(exchange: Exchange) -> Mapping[str, Any]:
    """Fields of a body that is a form or a JSON object, and was read."""
    body = exchange.request.body
    if not body:
        return {}
    kind = bodies.media_type(exchange.request.get_header("content-type"))
    if kind == bodies.FORM:
        return bodies.parse_form(body)
    return (bodies.parse_json_object(body) or {}) if kind == bodies.JSON else {}


def hide(exchange: Exchange) -> None:
    """Keeps the token from the upstream, in every place."""
    upstream, request = exchange.service.request, exchange.request
    if any(value.partition(" ")[0].lower() in SCHEMES for value in request.get_header_values(HEADER)):
        upstream.clear_header(HEADER)
    if upstream.raw_query:
        upstream.set_raw_query(bodies.without_argument(upstream.raw_query, ARGUMENT))
    fields = dict(fields_of(exchange))
    if ARGUMENT in fields:
        if bodies.media_type(request.get_header("content-type")) == bodies.FORM:
            text = (request.body or b"").decode("utf-8", "surrogateescape")
            upstream.set_body(bodies.without_argument(text, ARGUMENT).encode("utf-8", "surrogateescape"))
        else:
            del fields[ARGUMENT]
            upstream.set_body(bodies.encode_json(fields))
