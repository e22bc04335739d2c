# SPDX-License-Identifier: Apache-2.0
"""prometheus: what does Prometheus count?

For Prometheus, which asks the Admin API or the status listener for them.
"""

from __future__ import annotations

from pylae.plugins.prometheus import config as declared
from pylae.sdk.undone import Undone


class Prometheus(Undone):
    """Counts requests, and shows the counts on `/metrics`."""

    name = "prometheus"
    version = "3.10.0"
    priority = 13
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
