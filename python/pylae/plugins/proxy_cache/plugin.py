# SPDX-License-Identifier: Apache-2.0
"""proxy-cache: which answers can be given again without asking the upstream?

Those whose upstreams answer the same question many times in the same way.
"""

from __future__ import annotations

from pylae.plugins.proxy_cache import config as declared
from pylae.sdk.undone import Undone


class ProxyCache(Undone):
    """Keeps responses and answers later requests of the same kind from them."""

    name = "proxy-cache"
    version = "3.10.0"
    priority = 100
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
