# SPDX-License-Identifier: Apache-2.0
"""Which secret, of which vault, does a reference name?

`{vault://<vault>/<resource>[/<key>][?option=value][#version]}`, and nothing before or after it. The vault is a kind
(`env`) or the prefix of a row of `vaults`. Of a longer path the last part is the key, the rest the resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pylae.errors import PylaeError

START: Final = "{vault://"
_WHOLE: Final = re.compile(r"\{vault://[^{}]*[^{}/]\}")
_PARTS: Final = re.compile(r"(?P<vault>[^/?#]*)/(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<version>.*))?", re.DOTALL)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
MAX_LENGTH: Final = 8192


class InvalidReference(PylaeError):
    """A text that looks like a reference is none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The parts of a reference, decoded."""

    vault: str
    """A kind of vault, or the prefix of a row of `vaults`."""
    resource: str
    key: str | None = None
    """Which member of the secret, a JSON object, is meant."""
    version: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """They outdo the configuration of the vault."""

    def __str__(self) -> str:
        path = quote(self.resource) + ("" if self.key is None else f"/{quote(self.key, safe='')}")
        query = f"?{urlencode(self.options)}" if self.options else ""
        version = "" if self.version is None else f"#{self.version}"
        return f"{START}{self.vault}/{path}{query}{version}}}"


def is_reference(value: object) -> bool:
    """Whether a value is a reference as a whole.

    >>> is_reference("{vault://env/my-secret}"), is_reference("Bearer {vault://env/my-secret}"), is_reference("{vault://env/}")
    (True, False, False)
    """
    return isinstance(value, str) and value.startswith(START) and _WHOLE.fullmatch(value) is not None


def parse(text: str) -> Reference:
    """The parts of a reference.

    Raises:
        InvalidReference: it is none.

    >>> parse("{vault://env/my-secret/password?ttl=30#2}")
    Reference(vault='env', resource='my-secret', key='password', version=2, options={'ttl': '30'})
    """
    if not is_reference(text) or len(text) > MAX_LENGTH:
        raise InvalidReference(f"not a reference: `{text[:100]}`, expected {START}<vault>/<resource>}}")
    matched = _PARTS.fullmatch(text[len(START) : -1])
    if matched is None:
        raise InvalidReference(f"`{text}` names no secret")
    if _NAME.fullmatch(matched["vault"]) is None:
        raise InvalidReference(f"`{text}` names no vault")
    *before, last = matched["path"].split("/")
    resource, key = (unquote("/".join(before)), unquote(last) or None) if before else (unquote(last), None)
    if not resource:
        raise InvalidReference(f"`{text}` names no secret")
    version = matched["version"]
    if version is not None and re.fullmatch(r"[0-9]{1,9}", version) is None:
        raise InvalidReference(f"`{text}`: the version is not a number")
    return Reference(
        matched["vault"],
        resource,
        key,
        None if version is None else int(version),
        dict(parse_qsl(matched["query"] or "", keep_blank_values=True)),
    )
