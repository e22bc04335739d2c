# SPDX-License-Identifier: Apache-2.0
"""bot-detection: which clients are robots, and unwanted?

For APIs and sites that well-behaved robots should leave alone.
"""

from __future__ import annotations

from pylae.plugins.bot_detection import config as declared
from pylae.sdk.undone import Undone


class BotDetection(Undone):
    """Refuses clients whose `User-Agent` is that of a known crawler."""

    name = "bot-detection"
    version = "3.10.0"
    priority = 2500
    scopes = ("global", "service", "route")
    Config = declared.Config
