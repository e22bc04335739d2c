# SPDX-License-Identifier: Apache-2.0
"""ldap-auth: who calls, by an entry of an LDAP directory?

For APIs whose users are kept in a directory. The client's name and password are those of an entry right below
`base_dn`: whoever can bind as that entry is let in. No Consumer is meant, only the user. RFC 4511, section 4.2.
"""

from __future__ import annotations

from pylae.plugins.ldap_auth import config as declared
from pylae.sdk import Instance
from pylae.sdk.ldap.connection import Connection
from pylae.sdk.ldap.credentials import Credentials
from pylae.sdk.ldap.directory import Directory
from pylae.sdk.ldap.names import child_of
from pylae.sdk.ldap.plugin import REFUSED, LdapPlugin, PreparedLdap, Verdict, identity_of


class LdapAuth(LdapPlugin[PreparedLdap]):
    """Asks clients for a username and a password that an LDAP server knows."""

    name = "ldap-auth"
    version = "3.10.0"
    priority = 1200
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> PreparedLdap:  # noqa: ARG003 - the same for every scope
        """Says which server to ask, and how."""
        return PreparedLdap(config)

    async def ask(self, directory: Directory, config: PreparedLdap, credentials: Credentials) -> Verdict:
        """Binds as the entry that is called so."""
        name = child_of(config.base, config.attribute, credentials.username)

        async def bind(connection: Connection) -> bool:
            return await connection.bind(name, credentials.password)

        if not await directory.ask(bind):
            return REFUSED
        return Verdict(credentials.username, name, identity=identity_of(credentials.username))
