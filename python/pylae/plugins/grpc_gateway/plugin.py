# SPDX-License-Identifier: Apache-2.0
"""grpc-gateway: how does a client without gRPC call a gRPC service?

Those who offer a gRPC service to REST clients.
"""

from __future__ import annotations

from pylae.plugins.grpc_gateway import config as declared
from pylae.sdk.undone import Undone


class GrpcGateway(Undone):
    """Lets clients call a gRPC upstream with plain HTTP and JSON."""

    name = "grpc-gateway"
    version = "3.10.0"
    priority = 998
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
