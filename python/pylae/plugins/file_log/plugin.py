# SPDX-License-Identifier: Apache-2.0
"""file-log: how is a record of every request kept in a file?

For development, and for log shippers that read files.
"""

from __future__ import annotations

from pylae.plugins.file_log import config as declared
from pylae.sdk.undone import Undone


class FileLog(Undone):
    """Writes one JSON line for each request to a file."""

    name = "file-log"
    version = "3.10.0"
    priority = 9
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
    observes_only = True
