# SPDX-License-Identifier: Apache-2.0
"""request-termination: what do clients hear while nothing may be called?

Those who take a Service or Route out of use, for maintenance say, or look into what arrives.
"""

from __future__ import annotations

from pylae.plugins.request_termination import config as declared
from pylae.sdk.undone import Undone


class RequestTermination(Undone):
    """Answers requests itself, with a fixed status and message, without an upstream."""

    name = "request-termination"
    version = "3.10.0"
    priority = 2
    Config = declared.Config
