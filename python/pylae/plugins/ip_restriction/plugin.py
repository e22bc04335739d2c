# SPDX-License-Identifier: Apache-2.0
"""ip-restriction: from which addresses may clients come?

For APIs that only some networks may reach.
"""

from __future__ import annotations

from pylae.plugins.ip_restriction import config as declared
from pylae.sdk.undone import Undone


class IpRestriction(Undone):
    """Lets clients in, or keeps them out, by their address."""

    name = "ip-restriction"
    version = "3.10.0"
    priority = 990
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    default_protocols = ("http", "https", "tcp", "tls", "grpc", "grpcs")
    Config = declared.Config
