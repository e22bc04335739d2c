# SPDX-License-Identifier: Apache-2.0
"""Which keys does an issuer sign with? RFC 7517, section 5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

from pylae.sdk.jose.encoding import decode_object
from pylae.sdk.jose.errors import KeyRefused
from pylae.sdk.jose.keys import Key
from pylae.sdk.jose.tokens import Token

MAX_KEYS: Final = 256
"""Those beyond are not looked at."""
MAX_CANDIDATES: Final = 16
"""How many keys are tried for one token that names none of them."""


class KeySet:
    """The keys of one issuer.

    Attributes:
        keys: Those that can be used here.
        refused: Why each of the others cannot.
    """

    def __init__(self, keys: Iterable[Key], refused: Sequence[str] = ()) -> None:
        self.keys = tuple(keys)
        self.refused = tuple(refused)
        self._by_id: dict[str, list[Key]] = {}
        for key in self.keys:
            if key.key_id is not None:
                self._by_id.setdefault(key.key_id, []).append(key)

    def __repr__(self) -> str:
        return f"<key set {len(self.keys)} keys>"

    @classmethod
    def from_json(cls, data: bytes | dict[str, Any], *, holds_secrets: bool = False) -> Self:
        """A JSON Web Key Set; keys that can't be used are left out, as its section 5 asks.

        Args:
            data: What an issuer serves, or an administrator wrote; bytes or already decoded.
            holds_secrets: Takes `oct` keys too; never of a set that was fetched, since others may fetch it as well.

        Raises:
            KeyRefused: it is no set of keys.
        """
        try:
            document = decode_object(data) if isinstance(data, bytes) else data
        except ValueError:
            raise KeyRefused("no JSON object") from None
        entries = document.get("keys")
        if not isinstance(entries, list):
            raise KeyRefused("no list of `keys`")
        keys, refused = [], []
        for entry in entries[:MAX_KEYS]:
            try:
                if not isinstance(entry, dict):
                    raise KeyRefused("no JSON object")
                key = Key.from_jwk(entry)
                if key.kind == "oct" and not holds_secrets:
                    raise KeyRefused("a secret among public keys")
            except KeyRefused as refusal:
                refused.append(str(refusal))
            else:
                keys.append(key)
        return cls(keys, refused)

    def candidates(self, token: Token) -> list[Key]:
        """Keys the token may be signed with: those it names; if it names none, all of the right kind, a few at most."""
        known: Iterable[Key] = self.keys if token.key_id is None else self._by_id.get(token.key_id, ())
        return [key for key in known if key.serves(token.algorithm)][:MAX_CANDIDATES]
