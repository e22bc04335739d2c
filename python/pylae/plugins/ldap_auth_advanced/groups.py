# SPDX-License-Identifier: Apache-2.0
"""Which groups is a user in, and are they enough?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pylae.sdk.ldap.entries import Entry
from pylae.sdk.ldap.names import InvalidName, first_value, parse_name

OF_USERS: Final = frozenset({"memberof", "ismemberof"})
"""Attributes of users' entries only, in lower case: no group's entry is asked for them."""
BY_USERNAME: Final = frozenset({"memberuid"})
"""Attributes of groups' entries that hold usernames, in lower case, and no distinguished names (RFC 2307)."""


class Groups:
    """Where groups are and which of them are asked for.

    Args:
        base: the entry right below which they are.
        name_attribute: what holds a group's name.
        member_attribute: what joins users and groups.
        required: one of these texts must hold; it does when the user is in all groups it names, spaces between.
    """

    def __init__(self, base: str, name_attribute: str, member_attribute: str, required: Sequence[str] | None) -> None:
        self.base = base
        self.name_attribute = name_attribute
        self.member_attribute = member_attribute
        self._required = tuple(frozenset(text.split()) for text in required or ())

    def __repr__(self) -> str:
        return f"<groups below {self.base}>"

    @property
    def are_in_user(self) -> bool:
        """Whether only users' entries can say whose member they are."""
        return self.member_attribute.lower() in OF_USERS

    @property
    def hold_usernames(self) -> bool:
        """Whether groups' entries name their members by username."""
        return self.member_attribute.lower() in BY_USERNAME

    def are_enough(self, groups: Sequence[str]) -> bool:
        """Whether a user in these groups may pass."""
        if not self._required:
            return True
        present = frozenset(groups)
        return any(names and names <= present for names in self._required)

    def of_user(self, entry: Entry) -> tuple[str, ...] | None:
        """The groups a user's entry names; None when it says nothing of any."""
        names = entry.attributes.get(self.member_attribute.lower())
        if names is None:
            return None
        base = parse_name(self.base)
        groups = []
        for name in names:
            try:
                if parse_name(name)[1:] == base and (group := first_value(name, self.name_attribute)) is not None:
                    groups.append(group)
            except InvalidName:
                # A value that is no name is no group's either.
                continue
        return _presentable(groups)

    def of_entries(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """The names of groups' entries."""
        attribute = self.name_attribute.lower()
        return _presentable(name for entry in entries for name in entry.attributes.get(attribute, [])[:1])


def _presentable(groups: Iterable[str]) -> tuple[str, ...]:
    """In order and once each; what could not be in a header is no group's name."""
    return tuple(dict.fromkeys(name for name in groups if name and name.isprintable()))
