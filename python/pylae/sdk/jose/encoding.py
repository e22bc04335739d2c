# SPDX-License-Identifier: Apache-2.0
"""How do bytes become text that may stand in a header, and back? RFC 7515, sections 2 and 5.2."""

from __future__ import annotations

import binascii
from typing import Any, Final

import msgspec

_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_decode_json: Final = msgspec.json.Decoder().decode
encode_json: Final = msgspec.json.Encoder().encode
"""Compact JSON, bytes."""


def decode_base64url(data: bytes) -> bytes:
    """The bytes; no padding, no other alphabet, no white space.

    Raises:
        ValueError: it is not base64url.
    """
    # `+`, `/` and `=` become what no alphabet has.
    return binascii.a2b_base64(data.translate(_FROM_URL) + b"=" * (-len(data) % 4), strict_mode=True)


def encode_base64url(data: bytes) -> bytes:
    """The text, without padding.

    >>> encode_base64url(bytes([255, 254]))
    b'__4'
    """
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)


def decode_json(data: bytes) -> Any:
    """A JSON value.

    Raises:
        ValueError: it is none, or nested beyond reason, or holds numbers beyond it.
    """
    try:
        return _decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What it quotes may be a claim.
        raise ValueError("no JSON") from None


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is none.
    """
    value = decode_json(data)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
