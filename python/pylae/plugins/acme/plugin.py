# SPDX-License-Identifier: Apache-2.0
"""acme: who fetches and renews the certificates of our names?

For nodes that answer for public domain names and should need no certificate by hand.
"""

from __future__ import annotations

from pylae.plugins.acme import config as declared
from pylae.plugins.acme.entities import AcmeItem
from pylae.sdk.undone import Undone


class Acme(Undone):
    """Gets certificates from an ACME authority such as Let's Encrypt, and renews them."""

    name = "acme"
    version = "3.10.0"
    priority = 1705
    scopes = ("global",)
    Config = declared.Config
    ConfigWithoutDatabase = declared.ConfigWithoutDatabase
    entities = (AcmeItem,)
