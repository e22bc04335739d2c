# SPDX-License-Identifier: Apache-2.0
"""redirect: where should clients go instead?

Those who moved an API or a site, or want all of it at one address.
"""

from __future__ import annotations

from pylae.plugins.redirect import config as declared
from pylae.sdk.undone import Undone


class Redirect(Undone):
    """Sends clients to another URL."""

    name = "redirect"
    version = "3.10.0"
    priority = 779
    Config = declared.Config
