# SPDX-License-Identifier: Apache-2.0
"""How does the gateway know a probe of ours among all requests? By a signature that only who reads the prefix can make."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

HEADER: Final = "X-Pylae-Probe"
NONCE_BYTES: Final = 8
KEY_BYTES: Final = 32
SEEN_WITHIN_S: Final = 2.0
"""A record leaves the worker within a moment; after this it is not awaited any more."""
_LOOK_AGAIN_S: Final = 0.05

Call = Callable[[str, str], Awaitable[tuple[int, Mapping[str, Any]]]]


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


async def seen(call: Call, nonce: str) -> Mapping[str, Any] | None:
    """The record of a marked request as a list shows it, once the gateway has it; None: it has none."""
    deadline_s = time.monotonic() + SEEN_WITHIN_S
    while True:
        status, body = await call("GET", f"/explain?probe={nonce}")
        rows = [row for row in body.get("data") or [] if isinstance(row, Mapping)] if status == 200 else []
        if rows:
            return rows[0]
        if status != 200 or time.monotonic() > deadline_s:
            return None
        await asyncio.sleep(_LOOK_AGAIN_S)
