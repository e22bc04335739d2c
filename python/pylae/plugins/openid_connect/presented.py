# SPDX-License-Identifier: Apache-2.0
"""What does a request present as a credential, and how is it kept from the upstream?"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any, Final

from pylae.plugins.openid_connect.parts import Unauthorized
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import bodies
from pylae.sdk.exchange import Exchange
from pylae.sdk.sessions.cookies import without

TOKEN_HEADERS: Final = ("access-token", "x-access-token")
TOKEN_ARGUMENT: Final = "access_token"  # the name of an argument
MAX_TOKEN_CHARACTERS: Final = 16_384
"""Longer credentials are not looked at."""


def arguments_of(exchange: Exchange) -> Mapping[str, Any]:
    """Fields of the body, if it is a form or a JSON object and was read; parsed once per request."""
    key = "openid-connect.body"
    known: Mapping[str, Any] | None = exchange.ctx.get(key)
    if known is None:
        body, known = exchange.request.body, {}
        if body:
            kind = bodies.media_type(exchange.request.get_header("content-type"))
            if kind == bodies.FORM:
                known = bodies.parse_form(body)
            elif kind == bodies.JSON:
                known = bodies.parse_json_object(body) or {}
        exchange.ctx[key] = known
    return known


def find(exchange: Exchange, name: str, places: Collection[str]) -> str | None:
    """A parameter of the request: a header, an argument or a field of the body, the first of these that holds a text."""
    request = exchange.request
    found: list[Any] = []
    if "header" in places and _is_header_name(name):
        found.append(request.get_header(name))
    if "query" in places and request.raw_query:
        argument = request.get_query().get(name)
        if argument is not None:
            # Tokens and passwords are looked for here; what else is, no log needs.
            request.conceal_argument(name)
        found.append(argument)
    if "body" in places:
        found.append(arguments_of(exchange).get(name))
    for value in found:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str) and first:
            return first
    return None


def bearer_token(exchange: Exchange, settings: Settings) -> str | None:
    """The token a request comes with.

    Raises:
        Unauthorized: several are in one place, or it is too long, or no token at all.
    """
    request, places, config = exchange.request, settings.bearer_places, settings.config
    token: str | None = None
    if config.bearer_token_header_name:
        token = _after_scheme(_only(request.get_header_values(config.bearer_token_header_name)))
    elif "header" in places:
        token = _of_authorization(_only(request.get_header_values("authorization")))
        for name in TOKEN_HEADERS:
            token = token or _after_scheme(_only(request.get_header_values(name)))
    # Looked for even if it is not the one that counts: no log may hold it.
    argument = find(exchange, TOKEN_ARGUMENT, places & {"query", "body"})
    token = token or argument
    if token is None and "cookie" in places and config.bearer_token_cookie_name:
        token = cookie(exchange, config.bearer_token_cookie_name)
    if token is None:
        return None
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise Unauthorized("malformed token")
    return token


def basic_pair(exchange: Exchange) -> tuple[str, str] | None:
    """Name and secret of `Authorization: Basic`; None when there is none, or what there is cannot be read."""
    value = _only(exchange.request.get_header_values("authorization"))
    scheme, _, encoded = (value or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (name, secret) if colon and name and secret else None


def pair_of_arguments(exchange: Exchange, name: str, secret: str, places: Collection[str]) -> tuple[str, str] | None:
    """Name and secret, both in the query or both in the body."""
    for place in ("query", "body"):
        if place in places:
            found, its_secret = find(exchange, name, (place,)), find(exchange, secret, (place,))
            if found and its_secret:
                return found, its_secret
    return None


def cookie(exchange: Exchange, name: str) -> str | None:
    """The first cookie of that name (RFC 6265, section 5.4)."""
    for line in exchange.request.get_header_values("cookie"):
        for pair in line.split(";"):
            its_name, equals, value = pair.strip().partition("=")
            if equals and its_name == name:
                return value.strip('"') or None
    return None


def hide(exchange: Exchange, settings: Settings, method: str) -> None:
    """Keeps from the upstream what a method of authentication looks at, in all of its places."""
    config, upstream = settings.config, exchange.service.request
    headers, arguments = _places_of(settings, method)
    upstream.set_headers([(name, None) for name in headers])
    for name in headers:
        exchange.request.conceal_header(name)
    for name in arguments:
        if upstream.raw_query:
            upstream.set_raw_query(bodies.without_argument(upstream.raw_query, name))
    if arguments and arguments_of(exchange):
        _hide_in_body(exchange, arguments)
    if config.bearer_token_cookie_name and method in ("bearer", "introspection", "userinfo", "kong_oauth2"):
        _hide_cookie(exchange, config.bearer_token_cookie_name)


def _places_of(settings: Settings, method: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Headers and arguments."""
    config = settings.config
    if method in ("bearer", "introspection", "userinfo", "kong_oauth2"):
        own = (config.bearer_token_header_name,) if config.bearer_token_header_name else ()
        id_token = (config.id_token_param_name,) if config.id_token_param_name else ()
        return ("authorization", *TOKEN_HEADERS, *own, *id_token), (TOKEN_ARGUMENT, *id_token)
    if method == "password":
        return ("authorization",), ("username", "password")
    if method == "client_credentials":
        return ("authorization",), ("client_id", "client_secret")
    if method == "refresh_token" and config.refresh_token_param_name:
        return (config.refresh_token_param_name,), (config.refresh_token_param_name,)
    return (), ()


def _hide_in_body(exchange: Exchange, names: Collection[str]) -> None:
    body, fields = exchange.request.body or b"", dict(arguments_of(exchange))
    if not fields.keys() & set(names):
        return
    if bodies.media_type(exchange.request.get_header("content-type")) == bodies.FORM:
        text = body.decode("utf-8", "surrogateescape")
        for name in names:
            text = bodies.without_argument(text, name)
        exchange.service.request.set_body(text.encode("utf-8", "surrogateescape"))
    else:
        exchange.service.request.set_body(bodies.encode_json({key: fields[key] for key in fields if key not in names}))


def _hide_cookie(exchange: Exchange, name: str) -> None:
    # What was taken out before stays out.
    line = exchange.service.request.get_header("cookie")
    if line:
        exchange.service.request.set_headers([("cookie", without(line, (name,)) or None)])


def _only(values: list[str]) -> str | None:
    if len(values) > 1:
        raise Unauthorized("several credentials in one header")
    return values[0] if values else None


def _of_authorization(value: str | None) -> str | None:
    scheme, _, token = (value or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if not token.strip():
        raise Unauthorized("malformed token")
    return token.strip()


def _after_scheme(value: str | None) -> str | None:
    """The token, with or without `Bearer` before it."""
    if value is None:
        return None
    scheme, _, token = value.strip().partition(" ")
    return (token.strip() if scheme.lower() == "bearer" else value.strip()) or None


def _is_header_name(name: str) -> bool:
    return name.isascii() and all(one.isalnum() or one in "-_." for one in name)
