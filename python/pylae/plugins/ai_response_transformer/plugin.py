# SPDX-License-Identifier: Apache-2.0
"""ai-response-transformer: how does a language model rewrite an answer?

Those who change responses in ways that only words can describe.
"""

from __future__ import annotations

from pylae.plugins.ai_response_transformer import config as declared
from pylae.sdk.undone import Undone


class AiResponseTransformer(Undone):
    """Has a language model rewrite the upstream response before the client gets it."""

    name = "ai-response-transformer"
    version = "3.10.0"
    priority = 768
    Config = declared.Config
