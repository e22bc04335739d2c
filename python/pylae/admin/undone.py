# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of Kong's belong to plugins whose work is not part of this version?"""

from __future__ import annotations

from pylae.admin.crud import Handlers, absent

PATHS = {
    "/acme": ("PATCH", "POST"),
    "/acme/certificates": ("GET",),
    "/acme/certificates/{host}": ("GET",),
    "/proxy-cache": ("DELETE",),
    "/proxy-cache/{cache_key}": ("DELETE", "GET"),
    "/proxy-cache/{plugin_id}/caches/{cache_key}": ("DELETE", "GET"),
}
"""Methods by path; nothing is there for them to find."""


def endpoints() -> dict[str, Handlers]:
    """Handlers by path."""
    return {path: absent(*methods) for path, methods in PATHS.items()}
