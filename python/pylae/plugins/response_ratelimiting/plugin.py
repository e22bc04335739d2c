# SPDX-License-Identifier: Apache-2.0
"""response-ratelimiting: how much of what upstreams count may be used?

Those whose requests cost unequal amounts, which only the upstream knows.
"""

from __future__ import annotations

from pylae.plugins.response_ratelimiting import config as declared
from pylae.sdk.undone import Undone


class ResponseRatelimiting(Undone):
    """Limits clients by amounts that the upstream counts in a response header."""

    name = "response-ratelimiting"
    version = "3.10.0"
    priority = 900
    Config = declared.Config
