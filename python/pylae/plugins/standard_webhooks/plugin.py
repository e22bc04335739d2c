# SPDX-License-Identifier: Apache-2.0
"""standard-webhooks: was a webhook sent by whom it says?

Those who receive webhooks and must know who sent them.
"""

from __future__ import annotations

from pylae.plugins.standard_webhooks import config as declared
from pylae.sdk.undone import Undone


class StandardWebhooks(Undone):
    """Lets only webhooks through that are signed as the Standard Webhooks specification says."""

    name = "standard-webhooks"
    version = "3.10.0"
    priority = 760
    scopes = ("global", "service", "route")
    Config = declared.Config
