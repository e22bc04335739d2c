# SPDX-License-Identifier: Apache-2.0
"""loggly: how does Loggly get a record of every request?

For teams that keep their logs in Loggly.
"""

from __future__ import annotations

from pylae.plugins.loggly import config as declared
from pylae.sdk.undone import Undone


class Loggly(Undone):
    """Sends one JSON message for each request to Loggly."""

    name = "loggly"
    version = "3.10.0"
    priority = 6
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
