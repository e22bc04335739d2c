# SPDX-License-Identifier: Apache-2.0
"""pre-function: what Lua code runs before all other plugins?

Those who need a few lines of their own before other plugins and do not want to write a plugin.
"""

from __future__ import annotations

from pylae.plugins.pre_function import config as declared
from pylae.sdk.undone import Undone


class PreFunction(Undone):
    """Runs Lua code of the configuration in chosen phases, before the other plugins."""

    name = "pre-function"
    version = "3.10.0"
    priority = 1_000_000
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    scopes = ("global", "service", "route")
    Config = declared.Config
