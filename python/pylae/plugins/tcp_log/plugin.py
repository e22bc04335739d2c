# SPDX-License-Identifier: Apache-2.0
"""tcp-log: how is a record of every request sent over TCP?

For log servers that read lines from a connection.
"""

from __future__ import annotations

from pylae.plugins.tcp_log import config as declared
from pylae.sdk.undone import Undone


class TcpLog(Undone):
    """Sends one JSON line for each request to a TCP server."""

    name = "tcp-log"
    version = "3.10.0"
    priority = 7
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
