# SPDX-License-Identifier: Apache-2.0
"""How are tokens and codes made, kept, found again and used up?

They are rows, in no snapshot: whichever worker is asked finds them by a call, keeps tokens in memory until control says
that they changed, and reads codes and refresh tokens past every cache. `consume` gives a code or a refresh token to one
of all who come with it.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.oauth2.clients import Client
from pylae.plugins.oauth2.parameters import is_unicode
from pylae.sdk import Host
from pylae.sdk.auth import Identity
from pylae.sdk.entities import Row

CODE_TTL_S: Final = 300
LENGTH: Final = 32
"""Characters of a code or token: more than 190 bits."""
_ALPHABET: Final = string.ascii_letters + string.digits
_BOUND: Final = 10
"""Characters of a code that follow from its address; the 22 before them are random: 130 bits."""


def random_text(length: int = LENGTH) -> str:
    """Letters and digits that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def code_for(redirect_uri: str) -> str:
    """A code that is good for whoever names the same address again (RFC 6749, section 4.1.3)."""
    head = random_text(LENGTH - _BOUND)
    return head + _bound(head, redirect_uri)


def is_code_for(code: str, redirect_uri: str) -> bool:
    """Was it given for this address? Of codes that are rows; whether it is one, the database says."""
    return code[-_BOUND:] == _bound(code[:-_BOUND], redirect_uri)


def _bound(head: str, redirect_uri: str) -> str:
    digest = hashlib.sha256(f"{head} {redirect_uri}".encode("utf-8", "surrogatepass")).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_BOUND])


class Token:
    """A row of `oauth2_tokens` with its application joined; made once per row.

    Attributes:
        ends_at_ms: since the epoch; 0: never.
    """

    __slots__ = ("_consumer", "_identity", "client", "consumer_id", "ends_at_ms", "id", "scope", "service_id", "told", "user_id")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.id: str = row["id"]
        self.service_id: str | None = (row.get("service") or {}).get("id")
        self.scope: str | None = row.get("scope")
        self.user_id: str | None = row.get("authenticated_userid")
        self.ends_at_ms = ends_at_ms(row)
        credential = row["credential"]
        self.consumer_id: str | None = (credential.get("consumer") or {}).get("id")
        self.client = {name: value for name, value in credential.items() if name != "client_secret"}
        self.told = (
            ("X-Authenticated-Scope", self.scope if is_header_value(self.scope) else None),
            ("X-Authenticated-UserId", self.user_id if is_header_value(self.user_id) else None),
        )
        self._consumer: object = None
        self._identity: Identity | None = None

    def __repr__(self) -> str:
        return f"<oauth2 token {self.id}>"

    def identity_of(self, consumer: Row) -> Identity:
        """Whose application it was given to."""
        if self._identity is None or self._consumer is not consumer:
            self._consumer = consumer
            self._identity = Identity(consumer, self.client, self.client.get("client_id"))
        return self._identity


def ends_at_ms(row: Mapping[str, Any]) -> int:
    """When the access token of a row ends, in milliseconds since the epoch; 0: never."""
    expires_in_s: int = row.get("expires_in") or 0
    return int((row["created_at"] + expires_in_s) * 1000) if expires_in_s > 0 else 0


def is_header_value(text: str | None) -> bool:
    """May an upstream be told this, or nothing?"""
    return text is None or (is_unicode(text) and not any(character < " " or character == "\x7f" for character in text))


class Tokens:
    """Gives out codes and tokens, and finds them again."""

    def __init__(self, host: Host) -> None:
        self._entities = host.entities
        self._now_ms = host.now_ms
        self.by_access_token = host.entities.lookup("oauth2_tokens", "access_token", {"credential": "oauth2_credentials"}, Token)

    def __repr__(self) -> str:
        return f"<tokens {self.by_access_token}>"

    async def give_code(
        self, client: Client, redirect_uri: str, plugin_id: str, service_id: str | None, **leave: str | None
    ) -> str:
        """A new code.

        Args:
            client: Who may exchange it.
            redirect_uri: Where the user is sent back to with it.
            plugin_id: Which plugin it is exchanged at.
            service_id: For which Service it is; None for all.
            **leave: What the user gave leave for: `authenticated_userid`, `scope`, and `challenge` of PKCE.
        """
        code = code_for(redirect_uri)
        row = {
            "code": code,
            "credential": {"id": client.id},
            "plugin": {"id": plugin_id},
            "service": _reference(service_id),
            "challenge_method": None if leave.get("challenge") is None else "S256",
            **leave,
        }
        await self._entities.insert("oauth2_authorization_codes", row, ttl_s=CODE_TTL_S)
        return code

    async def find_code(self, code: str) -> Row | None:
        """The row of a code that was not exchanged yet."""
        return await self._entities.select_by("oauth2_authorization_codes", "code", code)

    async def use_up_code(self, code: str) -> bool:
        """Takes a code for good; False: somebody else was faster."""
        return await self._entities.consume("oauth2_authorization_codes", "code", code) is not None

    async def find_refresh_token(self, refresh_token: str) -> Row | None:
        """The row a refresh token is of."""
        return await self._entities.select_by("oauth2_tokens", "refresh_token", refresh_token)

    async def use_up_refresh_token(self, refresh_token: str) -> bool:
        """Takes a refresh token, and the access token beside it, for good; False: somebody else was faster."""
        return await self._entities.consume("oauth2_tokens", "refresh_token", refresh_token) is not None

    async def give_token(
        self,
        client: Client,
        service_id: str | None,
        expires_in_s: int,
        refresh_ttl_s: float | None,
        *,
        user_id: str | None,
        scope: str | None,
    ) -> dict[str, Any]:
        """A new access token, as the client is told of it.

        Args:
            client: Who may use it.
            service_id: For which Service it is; None for all.
            expires_in_s: How long it lasts; 0: for ever.
            refresh_ttl_s: How long its refresh token lasts (0: for ever); None: there is none.
            user_id: On whose behalf.
            scope: What for.
        """
        # What never ends needs no renewing.
        refreshes = refresh_ttl_s is not None and expires_in_s > 0
        ttl_s = refresh_ttl_s if refreshes else expires_in_s
        row = {
            "access_token": random_text(),
            "refresh_token": random_text() if refreshes else None,
            "credential": {"id": client.id},
            "service": _reference(service_id),
            "expires_in": expires_in_s,
            "authenticated_userid": user_id,
            "scope": scope,
        }
        await self._entities.insert("oauth2_tokens", row, ttl_s=ttl_s or None)
        return _told(row)

    async def renew(self, row: Row, expires_in_s: int) -> dict[str, Any] | None:
        """Another access token beside the same refresh token; None if that is gone by now."""
        changes = {"access_token": random_text(), "expires_in": expires_in_s, "created_at": self._now_ms() // 1000}
        renewed = await self._entities.update("oauth2_tokens", row["id"], changes)
        return None if renewed is None else _told(renewed)


def _reference(id_: str | None) -> dict[str, str] | None:
    return None if id_ is None else {"id": id_}


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the client is told of a token."""
    told = {"access_token": row["access_token"], "token_type": "bearer"}
    if row["expires_in"] > 0:
        told["expires_in"] = row["expires_in"]
    if row.get("refresh_token"):
        told["refresh_token"] = row["refresh_token"]
    return told
