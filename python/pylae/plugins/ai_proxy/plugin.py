# SPDX-License-Identifier: Apache-2.0
"""ai-proxy: how do clients speak one language to many language models?

Those who want clients to be independent of model providers and their credentials.
"""

from __future__ import annotations

from pylae.plugins.ai_proxy import config as declared
from pylae.sdk.undone import Undone


class AiProxy(Undone):
    """Passes chats and completions to a language model in one API format, whoever the provider is."""

    name = "ai-proxy"
    version = "3.10.0"
    priority = 770
    Config = declared.Config
