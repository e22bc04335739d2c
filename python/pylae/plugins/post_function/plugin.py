# SPDX-License-Identifier: Apache-2.0
"""post-function: what Lua code runs after all other plugins?

Those who need a few lines of their own after other plugins and do not want to write a plugin.
"""

from __future__ import annotations

from pylae.plugins.post_function import config as declared
from pylae.sdk.undone import Undone


class PostFunction(Undone):
    """Runs Lua code of the configuration in chosen phases, after the other plugins."""

    name = "post-function"
    version = "3.10.0"
    priority = -1000
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    scopes = ("global", "service", "route")
    Config = declared.Config
