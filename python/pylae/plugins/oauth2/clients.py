# SPDX-License-Identifier: Apache-2.0
"""Which application asks, and is it the one that it says?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pylae.plugins.oauth2 import hashes
from pylae.plugins.oauth2.answers import Refused, invalid_client
from pylae.plugins.oauth2.parameters import Parameters, basic_pair, is_unicode, may_be_key
from pylae.sdk import Exchange, Host
from pylae.sdk.auth import Verified, equals

MAX_REMEMBERED = 1_024


class Client:
    """A row of `oauth2_credentials`; made once per row."""

    __slots__ = ("client_id", "consumer_id", "id", "is_hashed", "kind", "redirect_uris", "secret")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.id: str = row["id"]
        self.client_id: str = row["client_id"]
        self.kind: str = row.get("client_type") or "confidential"
        self.redirect_uris: tuple[str, ...] = tuple(row.get("redirect_uris") or ())
        self.secret: str = row.get("client_secret") or ""
        # Once it is hashed, the hash itself is no secret to show, whatever the flag says later.
        self.is_hashed = bool(row.get("hash_secret")) or hashes.is_hashed(self.secret)

    def __repr__(self) -> str:
        return f"<oauth2 client {self.id}>"

    def redirect_uri(self, asked: Any) -> str | None:
        """Where users are sent back to: what is asked for if it is registered, to the letter; the first one if nothing is."""
        if asked is None:
            return self.redirect_uris[0] if self.redirect_uris else None
        return asked if isinstance(asked, str) and asked in self.redirect_uris else None


class Claim:
    """Who the client of a request says to be, and how it proves it."""

    __slots__ = ("client_id", "in_header", "secret")

    def __init__(self, exchange: Exchange, parameters: Parameters, header: str) -> None:
        self.client_id = parameters.key("client_id")
        self.secret: str | None = parameters.text("client_secret")
        self.in_header = False
        pair = basic_pair(exchange, header)
        if pair is None:
            return
        name, secret = pair
        if self.secret is None:
            is_other = self.client_id is not None and self.client_id != name
            self.in_header = True
            self.client_id = name if name and not is_other and may_be_key(name) else None
            self.secret = secret or None
        elif (name, secret) != (self.client_id, self.secret):
            # One request, two applications: it can't be said for which.
            self.in_header, self.client_id = True, None

    def refusal(self) -> Refused:
        """Of who is not known, or does not prove it."""
        return invalid_client(came_in_header=self.in_header)


class Clients:
    """The applications."""

    def __init__(self, host: Host) -> None:
        self._by_client_id = host.entities.lookup("oauth2_credentials", "client_id", prepare=Client)
        self._verified: Verified[bool] = Verified(host.now_ms, MAX_REMEMBERED)

    def __repr__(self) -> str:
        return f"<clients {self._by_client_id}>"

    async def find(self, claim: Claim) -> Client:
        """The application that the client says to be.

        Raises:
            Refused: there is none.
        """
        client: Client | None = None if claim.client_id is None else await self._by_client_id.get(claim.client_id)
        if client is None:
            raise claim.refusal()
        return client

    async def authenticate(self, claim: Claim, client: Client) -> None:
        """Judges the secret of a confidential application; a public one must not send any.

        Raises:
            Refused: it is wrong.
        """
        if client.kind == "public":
            if claim.secret is not None:
                raise Refused("invalid_request", "client_secret is disallowed for public clients")
        elif not claim.secret or not client.secret or not is_unicode(claim.secret) or not await self._is_right(claim, client):
            raise claim.refusal()

    async def _is_right(self, claim: Claim, client: Client) -> bool:
        assert claim.secret is not None, "asked of who sent one"
        if not client.is_hashed:
            return equals(claim.secret, client.secret)
        digest = self._verified.digest(client.id, claim.secret)
        if self._verified.get(digest, client) is not None:
            return True
        # Beside the data plane's thread: that is what a hash of a secret is slow for.
        is_right = await asyncio.to_thread(hashes.matches, claim.secret, client.secret)
        if is_right:
            self._verified.keep(digest, True, client)  # noqa: FBT003 - the decision
        return is_right
