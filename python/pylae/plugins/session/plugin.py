# SPDX-License-Identifier: Apache-2.0
"""session: how does a browser that was authenticated once stay so?

For browsers, which should not send credentials with every request.
"""

from __future__ import annotations

from pylae.plugins.session import config as declared
from pylae.plugins.session.entities import SessionMetadata, StoredSession
from pylae.sdk.undone import Undone


class Session(Undone):
    """Remembers an authenticated client in a session cookie."""

    name = "session"
    version = "3.10.0"
    priority = 1900
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    scopes = ("global", "service", "route")
    authenticates = True
    Config = declared.Config
    entities = (StoredSession, SessionMetadata)
