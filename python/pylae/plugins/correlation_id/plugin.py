# SPDX-License-Identifier: Apache-2.0
"""correlation-id: by what can one request be followed through many services?

For following one request through several systems.
"""

from __future__ import annotations

from pylae.plugins.correlation_id import config as declared
from pylae.sdk.undone import Undone


class CorrelationId(Undone):
    """Gives each request an id that goes along in a header."""

    name = "correlation-id"
    version = "3.10.0"
    priority = 100_001
    Config = declared.Config
