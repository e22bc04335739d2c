# SPDX-License-Identifier: Apache-2.0
"""Are two secrets the same? Answered in a time that does not tell where they differ."""

from __future__ import annotations

import hmac


def equals(one: str | bytes, other: str | bytes) -> bool:
    """Compares in constant time; text that is no UTF-8 as the bytes it came from (PEP 383)."""
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass" if _is_odd(value) else "surrogateescape")


def _is_odd(text: str) -> bool:
    """Holds surrogates that stand for no byte."""
    return any("\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff" for character in text)
