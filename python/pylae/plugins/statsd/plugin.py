# SPDX-License-Identifier: Apache-2.0
"""statsd: how does StatsD learn what requests take?

For dashboards that are fed by StatsD.
"""

from __future__ import annotations

from pylae.plugins.statsd import config as declared
from pylae.sdk.undone import Undone


class Statsd(Undone):
    """Sends metrics of each request to a StatsD server."""

    name = "statsd"
    version = "3.10.0"
    priority = 11
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
