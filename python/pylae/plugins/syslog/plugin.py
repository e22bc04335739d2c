# SPDX-License-Identifier: Apache-2.0
"""syslog: how does syslog get a record of every request?

For hosts whose logs are gathered by syslog.
"""

from __future__ import annotations

from pylae.plugins.syslog import config as declared
from pylae.sdk.undone import Undone


class Syslog(Undone):
    """Writes one JSON message for each request to the system log."""

    name = "syslog"
    version = "3.10.0"
    priority = 4
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
