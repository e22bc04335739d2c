# SPDX-License-Identifier: Apache-2.0
"""acl: which groups of Consumers may come in?

For APIs that only some of the authenticated clients may use.
"""

from __future__ import annotations

from pylae.plugins.acl import config as declared
from pylae.plugins.acl.entities import AclGroup
from pylae.sdk.undone import Undone


class Acl(Undone):
    """Lets clients in, or keeps them out, by the groups they belong to."""

    name = "acl"
    version = "3.10.0"
    priority = 950
    scopes = ("global", "service", "route")
    Config = declared.Config
    entities = (AclGroup,)
