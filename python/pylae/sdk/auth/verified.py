# SPDX-License-Identifier: Apache-2.0
"""How is a decision kept that was dear to make, without the secret it rests on?

A hash of a password, a signature, an answer of an identity provider: looked at once, then remembered until the decision
ends by itself or what it rests on changes. What is remembered is a keyed digest (BLAKE2b, the key drawn by each worker
and held in its memory only), so that nobody who reads the memory learns a password from it by guessing elsewhere.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

MAX_DECISIONS: Final = 16_384
_KEY: Final = secrets.token_bytes(32)

T = TypeVar("T")


class Remembered:
    """Decisions about the value of one header field, kept by the data plane: `exchange.request.remember` and `recognize`.

    The quick way for a field that comes with every request: one step from the request to the decision, without the value ever
    becoming a text. What it rests on is the caller's to compare. Kept by a keyed digest (HMAC-SHA-256), as below; those not
    asked for go first.

    Args:
        max_decisions: how many are kept.
    """

    __slots__ = ("max_decisions", "native")

    def __init__(self, max_decisions: int = MAX_DECISIONS) -> None:
        self.max_decisions = max_decisions
        self.native: Any = None
        """The data plane's own; made when first used."""

    def __repr__(self) -> str:
        return "<remembered decisions>"


class Verified(Generic[T]):
    """Decisions by digest; the least recently used go first.

    Args:
        now_ms: tells the time.
        max_decisions: how many are kept.
    """

    def __init__(self, now_ms: Callable[[], int], max_decisions: int = MAX_DECISIONS) -> None:
        self._now_ms = now_ms
        self._max_decisions = max_decisions
        # (decision, what it rests on, expires_at_ms or 0)
        self._decisions: OrderedDict[bytes, tuple[T, object, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<verified {len(self._decisions)} decisions>"

    @staticmethod
    def digest(*parts: str | bytes) -> bytes:
        """What stands for these parts: 32 bytes. Their borders count: `("ab", "c")` is not `("a", "bc")`."""
        hasher = hashlib.blake2b(digest_size=32, key=_KEY)
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            hasher.update(len(data).to_bytes(8, "little"))
            hasher.update(data)
        return hasher.digest()

    def get(self, digest: bytes, rests_on: object = None) -> T | None:
        """The decision, unless it has ended or rests on another object than `rests_on` (compared by identity).

        A `Lookup` answers with the very same object until control says that the row changed; so a decision made over what
        it answered is gone with the row.
        """
        known = self._decisions.get(digest)
        if known is None:
            return None
        decision, ground, expires_at_ms = known
        if ground is not rests_on or (expires_at_ms and expires_at_ms <= self._now_ms()):
            del self._decisions[digest]
            return None
        self._decisions.move_to_end(digest)
        return decision

    def keep(self, digest: bytes, decision: T, rests_on: object = None, expires_at_ms: int = 0) -> None:
        """Keeps a decision; `expires_at_ms` since the epoch, 0 for as long as its ground stays."""
        self._decisions[digest] = (decision, rests_on, expires_at_ms)
        self._decisions.move_to_end(digest)
        while len(self._decisions) > self._max_decisions:
            self._decisions.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Forgets one decision: its token was revoked."""
        self._decisions.pop(digest, None)

    def clear(self) -> None:
        """Forgets all."""
        self._decisions.clear()
