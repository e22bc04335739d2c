# SPDX-License-Identifier: Apache-2.0
"""Which shapes do most fields have?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pylae.sdk import field, kinds

METHODS: Final = (
    "authorization_code",
    "bearer",
    "client_credentials",
    "introspection",
    "kong_oauth2",
    "password",
    "refresh_token",
    "session",
    "userinfo",
)
"""Ways to say who the client is, in the order in which Kong lists them."""

CLIENT_AUTH: Final = (
    "client_secret_basic",
    "client_secret_jwt",
    "client_secret_post",
    "none",
    "private_key_jwt",
    "self_signed_tls_client_auth",
    "tls_client_auth",
)
"""Ways for the gateway to say to the provider who it is."""

PLACES: Final = ("body", "header", "query")
"""Where in a request a credential may be."""

SAME_SITE: Final = ("Default", "Lax", "None", "Strict")


def text(doc: str, *, default: str | None = None, one_of: Sequence[str] | None = None, **options: Any) -> Any:
    """A text that may be absent."""
    return _field(kinds.string(one_of=one_of), doc, default, options)


def url(doc: str, **options: Any) -> Any:
    """An address with scheme and host."""
    return _field(kinds.string(rule="url"), doc, None, options)


def urls(doc: str, *, is_referenceable: bool = False) -> Any:
    """Several of them, in order."""
    element = kinds.string(rule="url", referenceable=True) if is_referenceable else kinds.string(rule="url")
    return field(kinds.array(element), doc=doc)


def header(doc: str, *, default: str | None = None) -> Any:
    """The name of a header; after a colon may follow `bearer` or `basic`, put before the value."""
    return _field(kinds.string(), doc, default, {})


def texts(
    doc: str,
    *,
    default: Sequence[str] | None = None,
    one_of: Sequence[str] | None = None,
    is_referenceable: bool = False,
    is_secret: bool = False,
) -> Any:
    """A list of texts, in order."""
    options: dict[str, Any] = {"secret": True} if is_secret else {}
    element = kinds.string(one_of=one_of, referenceable=True) if is_referenceable else kinds.string(one_of=one_of)
    return _field(kinds.array(element), doc, None if default is None else list(default), options)


def choices(doc: str, one_of: Sequence[str], *, default: Sequence[str] | None = None) -> Any:
    """Some of a fixed list, each once."""
    return _field(kinds.set_of(kinds.string(one_of=one_of)), doc, None if default is None else list(default), {})


def flag(doc: str, *, default: bool | None = False) -> Any:
    """Yes or no; with the default None, neither."""
    return _field(kinds.boolean(), doc, default, {})


def seconds(doc: str, *, default: float | None = None) -> Any:
    """A time that is not negative."""
    return _field(kinds.number(between=(0, 2_147_483_647)), doc, default, {"unit": "seconds"})


def port(doc: str, *, default: int) -> Any:
    """A TCP port."""
    return field(kinds.integer(between=(0, 65_535)), default=default, doc=doc)


def _field(kind: Any, doc: str, default: Any, options: dict[str, Any]) -> Any:
    if default is not None:
        options["default"] = default
    return field(kind, doc=doc, **options)
