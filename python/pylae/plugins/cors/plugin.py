# SPDX-License-Identifier: Apache-2.0
"""cors: which web pages of other origins may call?

For APIs that web pages of another origin call.
"""

from __future__ import annotations

from pylae.plugins.cors import config as declared
from pylae.sdk.undone import Undone


class Cors(Undone):
    """Tells browsers which other sites' pages may use the API."""

    name = "cors"
    version = "3.10.0"
    priority = 2000
    scopes = ("global", "service", "route")
    Config = declared.Config
