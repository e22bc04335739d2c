# SPDX-License-Identifier: Apache-2.0
"""Does whoever asks know a token of the Admin API?

A token comes as `Authorization: Bearer <token>` (RFC 6750) or in `Kong-Admin-Token`. Digests are compared, all of
them, in constant time: how long the comparison takes says nothing about any token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from typing import Final

from starlette.types import Scope

from pylae.admin.refusals import Refusals

CHALLENGE: Final = 'Bearer realm="admin"'
TOKEN_HEADER: Final = b"kong-admin-token"
MAX_TRIES: Final = 4
"""Tokens that one request may show."""


class Gate:
    """Lets requests with a token through, and the questions that browsers ask before they send one.

    Args:
        tokens: at least one.
        refusals: told of every request that is refused.
        open_paths: that anybody may read: pages which ask for the token themselves.
    """

    def __init__(self, tokens: Iterable[str], refusals: Refusals, open_paths: Iterable[str] = ()) -> None:
        self._digests = tuple(_digest(token.encode()) for token in tokens)
        self._refusals = refusals
        self._open_paths = frozenset(path.encode() for path in open_paths)

    def __repr__(self) -> str:
        return f"<gate tokens={len(self._digests)}>"

    def admits(self, scope: Scope) -> bool:
        """Whether the request may go on."""
        if _is_preflight(scope) or (scope["method"] in ("GET", "HEAD") and scope.get("raw_path") in self._open_paths):
            return True
        shown = list(shown_tokens(scope))
        if any(self._is_known(token) for token in shown[:MAX_TRIES]):
            return True
        client = scope.get("client")
        reason = "a wrong token was shown to the Admin API" if shown else "no token was shown to the Admin API"
        self._refusals.note(client[0] if client else "-", reason)
        return False

    def _is_known(self, token: bytes) -> bool:
        digest = _digest(token)
        # Counted, so that no comparison is left out.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def shown_tokens(scope: Scope) -> Iterator[bytes]:
    """The tokens that a request shows, right or wrong."""
    for name, value in scope["headers"]:
        if name == TOKEN_HEADER:
            yield value.strip()
        elif name == b"authorization":
            kind, _, token = value.strip().partition(b" ")
            if kind.lower() == b"bearer":
                yield token.strip()


def _is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what it may send (Fetch, section 3.2.2): it never sends a token with that."""
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
