# SPDX-License-Identifier: Apache-2.0
"""ldap-auth-advanced: who calls, by an entry that is searched for in an LDAP directory, and in which groups is it?

For APIs whose users are anywhere below one entry of a directory, and whose rights follow from its groups. An entry of
the gateway's own looks the user up; whoever can bind as the found entry is let in, as the Consumer called so.
RFC 4511, sections 4.2 and 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pylae.plugins.ldap_auth_advanced import config as declared
from pylae.plugins.ldap_auth_advanced.groups import Groups
from pylae.plugins.ldap_auth_advanced.search import Search
from pylae.sdk import MISSING, Answer, Exchange, Instance
from pylae.sdk.auth import Identity, Outcome, Refusal
from pylae.sdk.auth.facts import set_groups
from pylae.sdk.auth.plugin import MayBeAnonymous
from pylae.sdk.ldap.credentials import Credentials
from pylae.sdk.ldap.directory import Directory
from pylae.sdk.ldap.plugin import LdapPlugin, PreparedLdap, Verdict, identity_of

GROUPS_HEADER: Final = "X-Authenticated-Groups"
FORBIDDEN: Final[Refusal] = (403, "User not in authorized LDAP Group", None)


class Prepared(PreparedLdap):
    """A configuration with everything computed that does not depend on the request."""

    def __init__(self, config: declared.Config) -> None:
        super().__init__(config)
        self.groups = Groups(
            config.group_base_dn or config.base_dn,
            config.group_name_attribute or config.attribute,
            config.group_member_attribute,
            config.groups_required,
        )
        self.search = Search(
            config.base_dn,
            config.attribute,
            self.groups,
            config.bind_dn,
            (config.ldap_password or "").encode("utf-8", "surrogateescape"),
        )
        self.consumer_by: Sequence[str] = () if config.consumer_optional else tuple(config.consumer_by)
        self.wants_consumer = not config.consumer_optional
        self.logs_entries = config.log_search_results


class LdapAuthAdvanced(LdapPlugin[Prepared]):
    """Asks clients for a username and a password that an LDAP server knows, and for the groups it has them in."""

    name = "ldap-auth-advanced"
    version = "3.10.0"
    priority = 1200
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Says which server to ask, and how."""
        return Prepared(config)

    async def ask(self, directory: Directory, config: Prepared, credentials: Credentials) -> Verdict:
        """Searches for the user, binds as whom it finds, and reads the groups."""

        def log(text: str) -> None:
            if config.logs_entries:
                self.host.log("notice", f"{directory.system}: {text}")

        found = await directory.ask(lambda connection: config.search.run(connection, credentials, log))
        return Verdict(found.username, found.name, found.groups, identity_of(found.username))

    def accept_verdict(self, exchange: Exchange, config: Prepared, verdict: Verdict) -> Outcome:
        """Lets the client pass as the Consumer its user stands for, if its groups are right."""
        if not config.groups.are_enough(verdict.groups):
            return self.refuse(exchange, config, FORBIDDEN)
        if not config.wants_consumer:
            return super().accept_verdict(exchange, config, verdict)
        for field in config.consumer_by:
            consumer = self._consumers(field).cached(verdict.username)
            if consumer is MISSING:
                return self._accept_later(exchange, config, verdict)
            if consumer is not None:
                return self._accept_as(exchange, config, verdict, consumer)
        return self.refuse(exchange, config, config.unauthorized)

    def remember(self, exchange: Exchange, config: Prepared, verdict: Verdict) -> None:
        """Tells the upstream and `acl` which groups the client is in."""
        super().remember(exchange, config, verdict)
        set_groups(exchange, verdict.groups)
        exchange.service.request.set_headers(((GROUPS_HEADER, ", ".join(verdict.groups) or None),))

    def refuse(self, exchange: Exchange, config: MayBeAnonymous, refusal: Refusal) -> Outcome:
        """Refuses the client; one that passes as the anonymous Consumer is in no group, whatever it says."""
        exchange.service.request.clear_header(GROUPS_HEADER)
        return super().refuse(exchange, config, refusal)

    async def _accept_later(self, exchange: Exchange, config: Prepared, verdict: Verdict) -> Answer | None:
        for field in config.consumer_by:
            consumer = await self._consumers(field).get(verdict.username)
            if consumer is not None:
                return await self.settle(self._accept_as(exchange, config, verdict, consumer))
        return await self.settle(self.refuse(exchange, config, config.unauthorized))

    def _accept_as(self, exchange: Exchange, config: Prepared, verdict: Verdict, consumer: Any) -> Outcome:
        self.remember(exchange, config, verdict)
        assert verdict.identity is not None, "a verdict that lets pass has an identity"
        return self.accept(exchange, Identity(consumer, verdict.identity.credential, verdict.username))

    def _consumers(self, field: str) -> Any:
        return self.consumers_by_username if field == "username" else self.consumers_by_custom_id
