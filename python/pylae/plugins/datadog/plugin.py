# SPDX-License-Identifier: Apache-2.0
"""datadog: how does Datadog learn what requests take?

For dashboards in Datadog.
"""

from __future__ import annotations

from pylae.plugins.datadog import config as declared
from pylae.sdk.undone import Undone


class Datadog(Undone):
    """Sends metrics of each request to a Datadog agent."""

    name = "datadog"
    version = "3.10.0"
    priority = 10
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
