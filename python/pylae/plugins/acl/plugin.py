# SPDX-License-Identifier: Apache-2.0
"""acl: is the client in a group that may call?

For APIs that some Consumers may use and others may not. An authentication plugin before it says who the client is; the
groups are the Consumer's own (`/consumers/{consumer}/acls`), or those that a directory or a token gave.
"""

from __future__ import annotations

from typing import Final

from pylae.plugins.acl import config as declared
from pylae.plugins.acl.entities import AclGroup
from pylae.sdk import MISSING, Answer, Exchange, Host, Instance, Plugin
from pylae.sdk.auth import Outcome
from pylae.sdk.auth.facts import groups_of
from pylae.sdk.entities import Row

CONSUMER_GROUPS: Final = "X-Consumer-Groups"
AUTHENTICATED_GROUPS: Final = "X-Authenticated-Groups"
REFUSED: Final = "You cannot consume this service"

Groups = tuple[str, ...]


class Prepared:
    """A configuration with its groups as a set."""

    __slots__ = ("allows", "groups", "hides", "prefers_authenticated")

    def __init__(self, config: declared.Config) -> None:
        self.allows = bool(config.allow)
        self.groups = frozenset(config.allow or config.deny or ())
        self.hides = config.hide_groups_header
        self.prefers_authenticated = config.always_use_authenticated_groups

    def lets_in(self, groups: Groups | list[str]) -> bool:
        """May somebody in these groups call?"""
        return self.groups.isdisjoint(groups) is not self.allows


def _names_of(rows: list[Row]) -> Groups:
    return tuple(sorted({row["group"] for row in rows}))


class Acl(Plugin):
    """Lets clients in, or keeps them out, by the groups of their Consumer."""

    name = "acl"
    version = "3.10.0"
    priority = 950
    scopes = ("global", "service", "route")
    entities = (AclGroup,)
    Config = declared.Config

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._groups = host.entities.lookup_owned("acls", "consumer", _names_of)

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Makes the set."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Outcome:
        """Judges from memory; waits only for the groups of a Consumer never seen before."""
        client = exchange.client
        consumer, credential = client.consumer, client.credential
        if consumer is None:
            given = groups_of(exchange)
            if given is None:
                return exchange.error(403, REFUSED) if credential is not None else exchange.error(401, "Unauthorized")
            return self._judge(exchange, config, given, AUTHENTICATED_GROUPS)
        if credential is None or config.prefers_authenticated:
            given = groups_of(exchange)
            if given is not None:
                return self._judge(exchange, config, given, AUTHENTICATED_GROUPS)
        groups = self._groups.cached(consumer["id"])
        if groups is MISSING:
            return self._judge_later(exchange, config, consumer["id"])
        return self._judge(exchange, config, groups, CONSUMER_GROUPS)

    async def _judge_later(self, exchange: Exchange, config: Prepared, consumer_id: str) -> Answer | None:
        return self._judge(exchange, config, await self._groups.get(consumer_id), CONSUMER_GROUPS)

    def _judge(self, exchange: Exchange, config: Prepared, groups: Groups | list[str], header: str) -> Answer | None:
        if not config.lets_in(groups):
            return exchange.error(403, REFUSED)
        told = None if config.hides or not groups else ", ".join(groups)
        other = AUTHENTICATED_GROUPS if header == CONSUMER_GROUPS else CONSUMER_GROUPS
        # What the client said itself of its groups ends here in any case.
        exchange.service.request.set_headers(((header, told), (other, None)))
        return None
