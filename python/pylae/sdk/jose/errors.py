# SPDX-License-Identifier: Apache-2.0
"""Why is a token no good? None of these holds any of it, or of a key."""

from __future__ import annotations

from typing import Final, Literal

Part = Literal["form", "JSON", "alg", "crit", "claims", "signature"]
"""What of a token cannot be read."""


class JoseError(Exception):
    """A token, or a key, that is not good for what it was shown for."""


class Malformed(JoseError):
    """It is no token: `part` says what of it cannot be read."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"invalid {part}")
        self.part: Final = part


class KeyRefused(JoseError):
    """A key that is malformed, too weak, too large, or of a kind that verifies no signature."""


class SignatureRefused(JoseError):
    """No key at hand made this signature; `is_key_missing` when none was even tried, so that newer keys may help."""

    def __init__(self, reason: str, *, is_key_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_key_missing: Final = is_key_missing


class ClaimRefused(JoseError):
    """A claim does not hold: `claim` names it, `reason` says why (`token expired`)."""

    def __init__(self, claim: str, reason: str) -> None:
        super().__init__(f"`{claim}`: {reason}")
        self.claim: Final = claim
        self.reason: Final = reason
