# SPDX-License-Identifier: Apache-2.0
"""udp-log: how is a record of every request sent over UDP?

For log servers where speed matters more than completeness.
"""

from __future__ import annotations

from pylae.plugins.udp_log import config as declared
from pylae.sdk.undone import Undone


class UdpLog(Undone):
    """Sends one JSON datagram for each request to a UDP server."""

    name = "udp-log"
    version = "3.10.0"
    priority = 8
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
