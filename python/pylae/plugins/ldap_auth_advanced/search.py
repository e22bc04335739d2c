# SPDX-License-Identifier: Apache-2.0
"""How is a user found in a directory, and shown to be who it says?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pylae.plugins.ldap_auth_advanced.groups import Groups
from pylae.sdk.ldap.connection import Connection
from pylae.sdk.ldap.credentials import Credentials
from pylae.sdk.ldap.entries import Entry, Equals, Present, Scope
from pylae.sdk.ldap.failures import LdapFailed
from pylae.sdk.ldap.names import child_of

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A user of the directory; `name` is None when there is none, or its password is another."""

    username: str = ""
    name: str | None = None
    groups: tuple[str, ...] = ()


NOBODY: Final = Found()


@dataclass(frozen=True, slots=True)
class Search:
    """Where users are, and as whom they are looked for.

    Args:
        base: the entry below which they are.
        attribute: what holds the username.
        bind_name: the entry that looks for them; None: users bind as the entry right below `base` that is called so.
    """

    base: str
    attribute: str
    groups: Groups
    bind_name: str | None
    bind_password: bytes = field(repr=False)

    async def run(self, connection: Connection, credentials: Credentials, log: Log) -> Found:
        """Finds the user and tries the password.

        Raises:
            LdapFailed: that could not be done, or `bind_dn` is not let in.
        """
        if self.bind_name is None:
            name = child_of(self.base, self.attribute, credentials.username)
            if not await connection.bind(name, credentials.password):
                return NOBODY
            entries = await connection.search(name, Scope.BASE, Present("objectClass"), self._attributes, 1)
            entry = entries[0] if entries else Entry(name)
        else:
            await self._bind(connection, self.bind_name)
            wanted = Equals(self.attribute, credentials.username)
            entries = await connection.search(self.base, Scope.SUBTREE, wanted, self._attributes, 2)
            log(f"{len(entries)} entries for `{self.attribute}` in {self.base}: {_described(entries)}")
            # Of several any might be meant. A bind without a name would succeed without proving anything.
            if len(entries) != 1 or not entries[0].name:
                return NOBODY
            entry = entries[0]
            if not await connection.bind(entry.name, credentials.password):
                return NOBODY
        username = self._username(entry, credentials.username)
        return Found(username, entry.name, await self._groups(connection, entry, username, log))

    async def _bind(self, connection: Connection, bind_name: str) -> None:
        if not self.bind_password:
            raise LdapFailed("`bind_dn` is set without `ldap_password`")
        if not await connection.bind(bind_name, self.bind_password):
            raise LdapFailed("does not let `bind_dn` in")

    async def _groups(self, connection: Connection, entry: Entry, username: str, log: Log) -> tuple[str, ...]:
        named = self.groups.of_user(entry)
        if named is not None or self.groups.are_in_user:
            return named or ()
        if self.bind_name is not None:
            # What the user may read is not what the gateway goes by.
            await self._bind(connection, self.bind_name)
        member = username if self.groups.hold_usernames else entry.name
        wanted = Equals(self.groups.member_attribute, member)
        entries = await connection.search(self.groups.base, Scope.ONE, wanted, [self.groups.name_attribute])
        log(f"{len(entries)} groups in {self.groups.base}: {_described(entries)}")
        return self.groups.of_entries(entries)

    @property
    def _attributes(self) -> list[str]:
        return [self.attribute, self.groups.member_attribute]

    def _username(self, entry: Entry, claimed: str) -> str:
        """As the directory writes it: to it `Alice` and `alice` are one, to Consumers and limits they would be two."""
        values = entry.attributes.get(self.attribute.lower(), [])
        folded = claimed.casefold()
        return next((value for value in values if value.casefold() == folded and value.isprintable()), claimed)


def _described(entries: list[Entry]) -> str:
    return ", ".join(f"{entry.name!r} {entry.attributes}" for entry in entries) or "none"
