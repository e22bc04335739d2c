# SPDX-License-Identifier: Apache-2.0
"""How does the gateway know a probe of ours among all requests? By a signature that only who reads the prefix can make."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

HEADER: Final = "X-Pylae-Probe"
NONCE_BYTES: Final = 8
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark for one request."""

    nonce: str
    value: str


def key_of(text: str) -> bytes | None:
    """The key that a file of the prefix holds, in hexadecimal digits; None: it holds none."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def mark(key: bytes, method: str, path: str, now_s: float, nonce: str | None = None) -> Mark:
    """A mark that is good for a minute.

    Args:
        key: the prefix'.
        method: GET, HEAD or OPTIONS.
        path: as sent, without query.
        now_s: the time of the epoch.
        nonce: 16 hexadecimal digits; None: any.
    """
    nonce = nonce or secrets.token_hex(NONCE_BYTES)
    seconds = int(now_s)
    signature = hmac.new(key, f"v1|{seconds}|{nonce}|{method}|{path}".encode(), hashlib.sha256).hexdigest()
    return Mark(nonce, f"v1;{seconds};{nonce};{signature}")
