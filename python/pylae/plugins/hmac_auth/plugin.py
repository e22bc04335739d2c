# SPDX-License-Identifier: Apache-2.0
"""hmac-auth: who calls, by a signature over the request?

For APIs whose requests must be proven to come from a client unaltered.
"""

from __future__ import annotations

from pylae.plugins.hmac_auth import config as declared
from pylae.plugins.hmac_auth.entities import HmacauthCredential
from pylae.sdk.undone import Undone


class HmacAuth(Undone):
    """Asks clients to sign their requests with a shared secret."""

    name = "hmac-auth"
    version = "3.10.0"
    priority = 1030
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
    entities = (HmacauthCredential,)
