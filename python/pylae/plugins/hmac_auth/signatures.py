# SPDX-License-Identifier: Apache-2.0
"""What has a client signed, and how does it say so?"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from pylae.sdk.exchange import Request

HASHES: Final = {"hmac-sha1": "sha1", "hmac-sha256": "sha256", "hmac-sha384": "sha384", "hmac-sha512": "sha512"}
"""The hash below each algorithm, as hashlib calls it."""
MAX_SIGNED_HEADERS: Final = 64
MAX_FIELD_CHARACTERS: Final = 16_384
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
    names = headers.split()
    return Signature(username, algorithm, names, signature) if 0 < len(names) <= MAX_SIGNED_HEADERS else None


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


def is_right(signature: str, secret: bytes, text: str, algorithm: str) -> bool:
    """Did somebody who knows the secret sign this text? Compared in constant time."""
    made = hmac.digest(secret, text.encode("utf-8", "surrogateescape"), HASHES[algorithm])
    try:
        given = binascii.a2b_base64(signature)
    except ValueError:
        return False
    return hmac.compare_digest(made, given)
