# SPDX-License-Identifier: Apache-2.0
"""What does a request say, in its query, its body and its credentials?"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from pylae.sdk import Exchange, bodies

ACCESS_TOKEN: Final = "access_token"  # the name of a parameter
SECRETS: Final = (ACCESS_TOKEN, "client_secret", "code", "code_verifier", "password", "provision_key", "refresh_token")
"""Parameters that are for no log, should a client send them in the query."""
MAX_CHARACTERS: Final = 4_096
"""Longer values are never asked of the database."""


class Parameters:
    """Arguments of the query, those of a form, multipart form or JSON object laid over them."""

    def __init__(self, exchange: Exchange) -> None:
        request = exchange.request
        self._values: dict[str, Any] = {**request.get_query()} if request.raw_query else {}
        for name in SECRETS:
            if name in self._values:
                request.conceal_argument(name)
        self._values.update(body_fields(exchange))

    def __repr__(self) -> str:
        return f"<parameters {sorted(self._values)}>"

    def has(self, name: str) -> bool:
        """Was it sent, as whatever?"""
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """As it was sent: text, `True` for a name alone, a list if it came repeatedly."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """Its one value, if that is a text and not only of spaces."""
        value = self._values.get(name)
        return value if isinstance(value, str) and value.strip() else None

    def key(self, name: str) -> str | None:
        """Its one value, if a row may be known by it."""
        value = self.text(name)
        return value if value is not None and may_be_key(value) else None

    def given(self) -> frozenset[str]:
        """Names of all that was sent."""
        return frozenset(self._values)


def may_be_key(text: str) -> bool:
    """May a row be known by this text? No row has NUL or bytes that are no text, and not every database may be asked for them."""
    if len(text) > MAX_CHARACTERS or "\0" in text:
        return False
    return text.isascii() or is_unicode(text)


def is_unicode(text: str) -> bool:
    """Is it text throughout, without bytes that are none (PEP 383)?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """The same, fit for JSON: what is no text is replaced."""
    return text if is_unicode(text) else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def body_fields(exchange: Exchange) -> Mapping[str, Any]:
    """Fields of the body; none if it is of another kind, too large, or not what it says."""
    body = exchange.request.body
    if not body:
        return {}
    content_type = exchange.request.get_header("content-type") or ""
    kind = bodies.media_type(content_type)
    if kind == bodies.FORM:
        return bodies.parse_form(body)
    if kind == bodies.JSON:
        return bodies.parse_json_object(body) or {}
    fields: dict[str, Any] = {}
    if kind == bodies.MULTIPART and (form := bodies.parse_multipart(body, content_type)) is not None:
        for part in form.parts:
            if part.name:
                bodies.add_argument(fields, part.name, part.content.decode("utf-8", "surrogateescape"))
    return fields


def without_field(body: bytes, content_type: str, name: str) -> bytes | None:
    """The body without one field; None where there is none to remove."""
    kind = bodies.media_type(content_type)
    if kind == bodies.FORM:
        return bodies.without_argument(body.decode("utf-8", "surrogateescape"), name).encode("utf-8", "surrogateescape")
    if kind == bodies.JSON:
        fields = bodies.parse_json_object(body)
        if fields is not None and fields.pop(name, None) is not None:
            return bodies.encode_json(fields)
    if kind == bodies.MULTIPART:
        form = bodies.parse_multipart(body, content_type)
        if form is not None:
            form.delete(name)
            return form.encode()
    return None


def basic_pair(exchange: Exchange, header: str) -> tuple[str, str] | None:
    """Id and secret of an `Authorization: Basic` (RFC 7617); None for another scheme or what can't be read."""
    values = exchange.request.get_header_values(header)
    scheme, _, encoded = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    name, _, secret = decoded.partition(":")
    return name, secret
