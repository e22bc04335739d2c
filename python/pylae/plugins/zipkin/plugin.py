# SPDX-License-Identifier: Apache-2.0
"""zipkin: how does Zipkin see where a request spends its time?

For seeing where in a chain of services a request spends its time.
"""

from __future__ import annotations

from pylae.plugins.zipkin import config as declared
from pylae.sdk.undone import Undone


class Zipkin(Undone):
    """Traces requests, and reports spans to a Zipkin server."""

    name = "zipkin"
    version = "3.10.0"
    priority = 100_000
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
