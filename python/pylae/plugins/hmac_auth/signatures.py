# SPDX-License-Identifier: Apache-2.0
"""What has a client signed, and how does it say so?"""

from __future__ import annotations

import binascii
import functools
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from pylae.sdk.exchange import Request

HASHES: Final = {"hmac-sha1": "sha1", "hmac-sha256": "sha256", "hmac-sha384": "sha384", "hmac-sha512": "sha512"}
"""The hash below each algorithm, as hashlib calls it."""
MAX_SIGNED_HEADERS: Final = 64
MAX_FIELD_CHARACTERS: Final = 16_384
MAX_REMEMBERED_CHARACTERS: Final = 256
"""Longer lists of names are taken apart each time."""
_USUAL: Final = re.compile(
    r'hmac\s+username="([^"]+)",\s*algorithm="([^"]+)",\s*headers="([^"]+)",\s*signature="([^"]+)"\s*', re.IGNORECASE
)
_PARAMETER: Final = re.compile(r'\s*([a-z]+)="([^"]+)"\s*(?:,|\Z)', re.IGNORECASE)


class Signature(NamedTuple):
    """The parameters of an `Authorization: hmac ...`."""

    username: str
    algorithm: str
    headers: Sequence[str]
    """Names of what is signed, in order and as written."""
    names: frozenset[str]
    """The same in lower case."""
    signature: str
    """Base64."""


def parse_signature(value: str) -> Signature | None:
    """The parameters, in any order; None when one is missing or it is another scheme."""
    if len(value) > MAX_FIELD_CHARACTERS:
        return None
    usual = _USUAL.fullmatch(value)
    if usual is not None:
        username, algorithm, headers, signature = usual.groups()
    else:
        parameters = _parameters(value)
        if parameters is None:
            return None
        try:
            username, algorithm = parameters["username"], parameters["algorithm"]
            headers, signature = parameters["headers"], parameters["signature"]
        except KeyError:
            return None
    in_order, names = _known_names(headers) if len(headers) <= MAX_REMEMBERED_CHARACTERS else _names(headers)
    return Signature(username, algorithm, in_order, names, signature) if 0 < len(in_order) <= MAX_SIGNED_HEADERS else None


def _names(headers: str) -> tuple[tuple[str, ...], frozenset[str]]:
    in_order = tuple(headers.split())
    return in_order, frozenset(name.lower() for name in in_order)


# A client signs the same fields each time.
_known_names = functools.lru_cache(maxsize=1024)(_names)


def _parameters(value: str) -> dict[str, str] | None:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "hmac":
        return None
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None or match[1].lower() in parameters:
            return None
        parameters[match[1].lower()] = match[2]
        position = match.end()
    return parameters


def signed_text(request: Request, names: Sequence[str]) -> str:
    """What the client has put its name to: a line for each name.

    A field that came several times counts with all its values, joined by `, ` (draft-cavage-http-signatures, section 2.3), so
    that nobody can add one to what is signed.
    """
    lines = []
    for name in names:
        lowered = name.lower()
        if lowered == "@request-target":
            lines.append(f"{name}: {request.method.lower()} {request.path_with_query}")
        elif lowered == "request-line":
            version = request.http_version
            lines.append(f"{request.method} {request.path_with_query} HTTP/{version if '.' in version else version + '.0'}")
        else:
            values = request.get_header_values(name)
            lines.append(f"{name}: {', '.join(values)}" if values else f"{name}:")
    return "\n".join(lines)


class Secret:
    """A shared secret, ready to verify with: what HMAC (RFC 2104) makes of it alone is hashed once, not once per request."""

    __slots__ = ("_begun", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._begun: dict[str, tuple[hashlib._Hash, hashlib._Hash]] = {}

    def __repr__(self) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self._secret)

    def _begin(self, algorithm: str) -> tuple[hashlib._Hash, hashlib._Hash]:
        made = hashlib.new(HASHES[algorithm])
        key = self._secret
        if len(key) > made.block_size:
            key = hashlib.new(HASHES[algorithm], key).digest()
        key = key.ljust(made.block_size, b"\0")
        begun = tuple(hashlib.new(HASHES[algorithm], bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))
        self._begun[algorithm] = begun[0], begun[1]
        return self._begun[algorithm]

    def has_signed(self, text: str, signature: str, algorithm: str) -> bool:
        """Did somebody who knows the secret sign this text? Compared in constant time."""
        begun = self._begun.get(algorithm) or self._begin(algorithm)
        inner, outer = begun[0].copy(), begun[1].copy()
        inner.update(text.encode("utf-8", "surrogateescape"))
        outer.update(inner.digest())
        try:
            given = binascii.a2b_base64(signature)
        except ValueError:
            return False
        return hmac.compare_digest(outer.digest(), given)
