# SPDX-License-Identifier: Apache-2.0
"""How is something given to a client to keep, that it can neither read nor make itself?

AES-256-GCM (NIST SP 800-38D) under a key that HKDF (RFC 5869) makes of a configured secret, a nonce drawn for each text.
What it is for is part of what is authenticated: a text sealed for one purpose does not open for another.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
MAX_TEXT_CHARACTERS: Final = 65_536
"""Longer texts were not made here."""


async def load_library() -> None:
    """Loads what sealing needs on another thread than the one that serves: the first time takes some tens of milliseconds."""
    await asyncio.to_thread(_library)


def _library() -> None:
    import cryptography.exceptions
    import cryptography.hazmat.primitives.ciphers.aead
    import cryptography.hazmat.primitives.hashes
    import cryptography.hazmat.primitives.kdf.hkdf  # noqa: F401


class Sealer:
    """Seals and opens texts.

    Args:
        secret: What the key is made of.
        purpose: What the texts are for.
    """

    def __init__(self, secret: str, purpose: str) -> None:
        self._secret = secret
        self._purpose = purpose.encode()
        self._made: AESGCM | None = None

    def __repr__(self) -> str:
        return f"<sealer for {self._purpose.decode()}>"

    def seal(self, content: bytes) -> str:
        """The content as a text of letters, digits, `-` and `_`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = _VERSION + nonce + self._cipher.encrypt(nonce, content, self._purpose)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str) -> bytes | None:
        """The content; None for anything that this secret did not seal for this purpose."""
        from cryptography.exceptions import InvalidTag

        if len(text) > MAX_TEXT_CHARACTERS or not text.isascii():
            return None
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
            return None
        try:
            return self._cipher.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], self._purpose)
        except InvalidTag:
            return None

    @property
    def _cipher(self) -> AESGCM:
        """Made when first needed: a worker without sessions does not load the library."""
        if self._made is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            key = HKDF(SHA256(), 32, salt=None, info=b"pylae session v1").derive(self._secret.encode("utf-8", "surrogateescape"))
            self._made = AESGCM(key)
        return self._made
