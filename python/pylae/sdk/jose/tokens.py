# SPDX-License-Identifier: Apache-2.0
"""What does a token say, before anybody believes it?"""

from __future__ import annotations

from typing import Any, Final

from pylae.sdk.jose.encoding import decode_base64url, decode_json, decode_object
from pylae.sdk.jose.errors import Malformed
from pylae.sdk.jose.names import ALGORITHMS

MAX_TOKEN_BYTES: Final = 16_384
"""Longer ones are not looked at."""


class Token:
    """A compact token, taken apart; nothing of it is verified yet.

    Attributes:
        header: The protected header, a JSON object.
        claims: What it says, a JSON object.
        algorithm: Of `ALGORITHMS`.
        key_id: Which of its issuer's keys it says it is signed with; any text, from a stranger.
        signing_input: The bytes that are signed.
        signature: Over those.
    """

    __slots__ = ("algorithm", "claims", "header", "key_id", "signature", "signing_input")

    def __init__(
        self, header: dict[str, Any], claims: dict[str, Any], algorithm: str, signing_input: bytes, signature: bytes
    ) -> None:
        self.header = header
        self.claims = claims
        self.algorithm = algorithm
        key_id = header.get("kid")
        self.key_id: str | None = key_id if isinstance(key_id, str) else None
        self.signing_input = signing_input
        self.signature = signature

    def __repr__(self) -> str:
        return f"<token {self.algorithm}>"


def parse(text: str, max_bytes: int = MAX_TOKEN_BYTES) -> Token:
    """Takes a compact token apart.

    Raises:
        Malformed: It is none (RFC 7515, section 5.2), its algorithm is not in `ALGORITHMS`, or it has extensions that must
            be understood (`crit`): there are none here.
    """
    if not text.isascii() or len(text) > max_bytes:
        raise Malformed("form")
    parts = text.encode().split(b".")
    if len(parts) != 3:
        raise Malformed("form")
    try:
        header = decode_object(decode_base64url(parts[0]))
        claims = decode_json(decode_base64url(parts[1]))
    except ValueError:
        raise Malformed("JSON") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise Malformed("alg")
    if "crit" in header or header.get("b64") is False:
        raise Malformed("crit")
    if not isinstance(claims, dict):
        raise Malformed("claims")
    try:
        signature = decode_base64url(parts[2])
    except ValueError:
        raise Malformed("signature") from None
    if not signature:
        raise Malformed("signature")
    return Token(header, claims, algorithm, parts[0] + b"." + parts[1], signature)
