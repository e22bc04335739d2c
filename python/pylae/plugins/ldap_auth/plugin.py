# SPDX-License-Identifier: Apache-2.0
"""ldap-auth: who calls, by an entry of an LDAP directory?

For APIs whose users are kept in a directory.
"""

from __future__ import annotations

from pylae.plugins.ldap_auth import config as declared
from pylae.sdk.undone import Undone


class LdapAuth(Undone):
    """Asks clients for a username and a password that an LDAP server knows."""

    name = "ldap-auth"
    version = "3.10.0"
    priority = 1200
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
