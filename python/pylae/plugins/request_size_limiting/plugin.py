# SPDX-License-Identifier: Apache-2.0
"""request-size-limiting: how large may a request body be?

Those whose upstreams must not receive large bodies.
"""

from __future__ import annotations

from pylae.plugins.request_size_limiting import config as declared
from pylae.sdk.undone import Undone


class RequestSizeLimiting(Undone):
    """Refuses requests whose body is larger than allowed."""

    name = "request-size-limiting"
    version = "3.10.0"
    priority = 951
    Config = declared.Config
