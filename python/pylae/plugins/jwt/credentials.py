# SPDX-License-Identifier: Apache-2.0
"""What verifies the tokens of a credential, and whom do they stand for?"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Mapping
from typing import Any

from pylae.sdk.auth import Identity
from pylae.sdk.jose import ALGORITHMS, Key, KeyRefused


class Credential:
    """A row of `jwt_secrets`, ready to verify with; made once per row."""

    __slots__ = ("_pem", "_secret", "algorithm", "identity", "is_loaded", "key", "key_from_base64")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.identity = Identity.of_credential(row, row["key"])
        self.algorithm: str = row.get("algorithm") or "HS256"
        self.key: Key | None = None
        self.key_from_base64: Key | None = None
        self._pem: str = row.get("rsa_public_key") or ""
        self._secret: str = row.get("secret") or ""
        self.is_loaded = ALGORITHMS.get(self.algorithm) == "oct"
        if self.is_loaded:
            self.key = _secret_key(self._secret.encode())
            self.key_from_base64 = _secret_key(_from_base64(self._secret))

    def __repr__(self) -> str:
        return f"<jwt credential {self.algorithm}>"

    async def load(self) -> None:
        """Reads the public key.

        Beside the data plane's thread: the first key imports cryptography, which takes longer than requests should wait.
        """
        if not self.is_loaded:
            self.key = self.key_from_base64 = await asyncio.to_thread(_public_key, self._pem)
            self.is_loaded = True


def _secret_key(secret: bytes) -> Key | None:
    try:
        return Key.from_secret(secret)
    except KeyRefused:
        return None


def _public_key(pem: str) -> Key | None:
    try:
        return Key.from_pem(pem) if pem else None
    except KeyRefused:
        return None


def _from_base64(text: str) -> bytes:
    """Bytes of base64 in either alphabet, padded or not; none for anything else."""
    data = text.encode().translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4))
    except binascii.Error:
        return b""
