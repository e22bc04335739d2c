# SPDX-License-Identifier: Apache-2.0
"""basic-auth: who calls, by username and password?

For APIs whose clients can do no more than HTTP Basic authentication.
"""

from __future__ import annotations

from pylae.plugins.basic_auth import config as declared
from pylae.plugins.basic_auth.entities import BasicauthCredential
from pylae.sdk.undone import Undone


class BasicAuth(Undone):
    """Asks clients for a username and a password."""

    name = "basic-auth"
    version = "3.10.0"
    priority = 1100
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
    entities = (BasicauthCredential,)
