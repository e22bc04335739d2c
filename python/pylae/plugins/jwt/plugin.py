# SPDX-License-Identifier: Apache-2.0
"""jwt: who calls, by a signed token?

For APIs whose clients get their tokens from an issuer that is trusted here.
"""

from __future__ import annotations

from pylae.plugins.jwt import config as declared
from pylae.plugins.jwt.entities import JwtSecret
from pylae.sdk.undone import Undone


class Jwt(Undone):
    """Asks clients for a signed JSON Web Token."""

    name = "jwt"
    version = "3.10.0"
    priority = 1450
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
    entities = (JwtSecret,)
