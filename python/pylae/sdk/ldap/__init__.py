# SPDX-License-Identifier: Apache-2.0
"""How does a plugin ask an LDAP directory?

`Directory.ask` lends a connection of a bounded pool to a function that binds and searches on it; what hinders it
becomes `SystemUnavailable`. Filters are built, never written as text, and names that clients chose are escaped before
they are part of a distinguished name, so that neither can be broken out of. `LdapPlugin` is what the plugins share
that ask clients for a username and a password. Why not a library: docs/decisions/0020-ldap.md.
"""

from pylae.sdk.ldap.connection import Connection
from pylae.sdk.ldap.credentials import Credentials, credentials_in
from pylae.sdk.ldap.directory import Directory, Server
from pylae.sdk.ldap.entries import Entry, Equals, Present, Scope
from pylae.sdk.ldap.failures import ConnectionLost, LdapFailed
from pylae.sdk.ldap.names import InvalidName, child_of, parse_name
from pylae.sdk.ldap.plugin import LdapPlugin, PreparedLdap, Verdict

__all__ = [
    "Connection",
    "ConnectionLost",
    "Credentials",
    "Directory",
    "Entry",
    "Equals",
    "InvalidName",
    "LdapFailed",
    "LdapPlugin",
    "PreparedLdap",
    "Present",
    "Scope",
    "Server",
    "Verdict",
    "child_of",
    "credentials_in",
    "parse_name",
]
