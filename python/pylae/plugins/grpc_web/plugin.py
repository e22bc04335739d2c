# SPDX-License-Identifier: Apache-2.0
"""grpc-web: how does a browser call a gRPC service?

Those who offer a gRPC service to web pages.
"""

from __future__ import annotations

from pylae.plugins.grpc_web import config as declared
from pylae.sdk.undone import Undone


class GrpcWeb(Undone):
    """Lets browsers call a gRPC upstream with gRPC-Web."""

    name = "grpc-web"
    version = "3.10.0"
    priority = 3
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
