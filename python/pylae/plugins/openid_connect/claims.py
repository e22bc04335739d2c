# SPDX-License-Identifier: Apache-2.0
"""What do the claims of a Grant say?

A claim is looked for in the access token, then in what introspection answered, in the id token, and in what userinfo said.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pylae.plugins.openid_connect.parts import Claims, Forbidden, Grant, Unauthorized
from pylae.sdk import bodies

if TYPE_CHECKING:
    # Settings are made of claims.
    from pylae.plugins.openid_connect.settings import Requirement, Settings

MAX_HEADER_CHARACTERS: Final = 8_192


def sources(grant: Grant) -> Iterable[Claims]:
    """Where claims are looked for, in order."""
    for claims in (grant.access_claims, grant.introspection, grant.id_claims, grant.user_info):
        if claims is not None:
            yield claims


def at(claims: Any, path: Sequence[str]) -> Any:
    """What is at the end of a way through nested objects; None for nothing."""
    for name in path:
        if not isinstance(claims, Mapping):
            return None
        claims = claims.get(name)
    return claims


def find(grant: Grant, path: Sequence[str]) -> Any:
    """A claim, from the first place that has it; None for nothing."""
    for claims in sources(grant):
        value = at(claims, path)
        if value is not None:
            return value
    if path == ("scope",) and grant.response is not None:
        return grant.response.get("scope")
    return None


def values_of(claim: Any) -> list[str]:
    """The values a claim holds: the words of a text, the texts of a list; else the one it is."""
    if isinstance(claim, str):
        return claim.split()
    if isinstance(claim, list):
        return [text for item in claim if (text := name_of(item)) is not None]
    one = name_of(claim)
    return [] if one is None else [one]


def name_of(claim: Any) -> str | None:
    """A claim as a name: texts and whole numbers are names."""
    if isinstance(claim, str):
        return claim or None
    if isinstance(claim, int) and not isinstance(claim, bool):
        return str(claim)
    return None


def require(grant: Grant, requirements: Iterable[Requirement]) -> None:
    """Does the client have what it needs?

    Raises:
        Forbidden: it lacks something.
    """
    for what, path, alternatives in requirements:
        claim = find(grant, path)
        held = set(values_of(claim))
        if isinstance(claim, str):
            # A single value may have spaces in it.
            held.add(claim)
        if not any(needed <= held for needed in alternatives):
            raise Forbidden(f"required {what} are missing")


def check_contents(claims: Claims, settings: Settings, now_s: float) -> None:
    """Are the claims such as the configuration asks for, besides those that every token has?

    Raises:
        Unauthorized: they are not.
    """
    config = settings.config
    for name in config.claims_forbidden or ():
        if name in claims:
            raise Unauthorized(f"the claim `{name}` is forbidden")
    if config.domains and claims.get("hd") not in config.domains:
        raise Unauthorized("another domain (`hd`)")
    if config.max_age is not None and "auth_time" in claims:
        at_s = claims["auth_time"]
        if isinstance(at_s, bool) or not isinstance(at_s, (int, float)) or at_s + config.max_age + settings.leeway_s < now_s:
            raise Unauthorized("the login was too long ago (`auth_time`)")


def header_text(value: Any) -> str | None:
    """A claim as a header carries it: a text or number as it is, anything with parts as JSON in base64; None if it can't be."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
    elif isinstance(value, (bool, int, float)):
        text = bodies.encode_json(value).decode()
    else:
        text = encoded(value)
    # A line feed would begin a header of the token's choice.
    if len(text) > MAX_HEADER_CHARACTERS or any(ord(one) < 0x20 or ord(one) == 0x7F for one in text):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def encoded(value: Any) -> str:
    """JSON in base64."""
    return base64.b64encode(bodies.encode_json(value)).decode()
