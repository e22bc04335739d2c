# SPDX-License-Identifier: Apache-2.0
"""How is an application's secret kept, so that whoever reads the database cannot use it?"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

ROUNDS: Final = 10_000
MAX_ROUNDS: Final = 1_000_000
"""A hash that asks for more verifies nothing: it would hold a processor for seconds."""
HASH_BYTES: Final = 32
MAX_HASH_BYTES: Final = 64
SALT_BYTES: Final = 16
_HASHED: Final = re.compile(r"\$(argon2|2b\$|pbkdf2)")
_PBKDF2: Final = re.compile(r"\$pbkdf2-sha512\$i=([0-9]{1,9}),l=([0-9]{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


def hashed(secret: str) -> str:
    """A secret in the form `$pbkdf2-sha512$i=...,l=...$salt$hash`, which Kong reads too."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, ROUNDS, HASH_BYTES)
    salt_text, key_text = (base64.b64encode(part).decode().rstrip("=") for part in (salt, key))
    return f"$pbkdf2-sha512$i={ROUNDS},l={HASH_BYTES}${salt_text}${key_text}"


def is_hashed(stored: str) -> bool:
    """Is this a hash, of whichever kind that Kong makes?"""
    return _HASHED.match(stored) is not None


def matches(secret: str, stored: str) -> bool:
    """Is it the secret of this hash? It takes milliseconds; of a kind that can't be verified here (argon2, bcrypt), none is."""
    found = _PBKDF2.fullmatch(stored)
    if found is None:
        return False
    rounds, length_bytes = int(found[1]), int(found[2])
    salt, key = _decoded(found[3]), _decoded(found[4])
    if not 1 <= rounds <= MAX_ROUNDS or not 16 <= length_bytes <= MAX_HASH_BYTES or len(key) != length_bytes:
        return False
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, rounds, length_bytes), key)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""
