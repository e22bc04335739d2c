# SPDX-License-Identifier: Apache-2.0
"""ai-request-transformer: how does a language model rewrite a request?

Those who change requests in ways that only words can describe.
"""

from __future__ import annotations

from pylae.plugins.ai_request_transformer import config as declared
from pylae.sdk.undone import Undone


class AiRequestTransformer(Undone):
    """Has a language model rewrite the request body before it goes upstream."""

    name = "ai-request-transformer"
    version = "3.10.0"
    priority = 777
    scopes = ("global", "service", "route")
    Config = declared.Config
