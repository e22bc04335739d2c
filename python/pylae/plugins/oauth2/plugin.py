# SPDX-License-Identifier: Apache-2.0
"""oauth2: how are access tokens given out, and who calls with one?

For APIs that act for users whom an application of your own logs in.
"""

from __future__ import annotations

from pylae.plugins.oauth2 import config as declared
from pylae.plugins.oauth2.entities import Oauth2AuthorizationCode, Oauth2Credential, Oauth2Token
from pylae.sdk.undone import Undone


class Oauth2(Undone):
    """Gives clients OAuth 2.0 tokens, and asks for them."""

    name = "oauth2"
    version = "3.10.0"
    priority = 1400
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
    entities = (Oauth2Credential, Oauth2AuthorizationCode, Oauth2Token)
