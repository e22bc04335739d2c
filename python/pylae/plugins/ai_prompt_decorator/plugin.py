# SPDX-License-Identifier: Apache-2.0
"""ai-prompt-decorator: what is said to a language model before and after what the client says?

Those who give a model standing instructions that clients need not know.
"""

from __future__ import annotations

from pylae.plugins.ai_prompt_decorator import config as declared
from pylae.sdk.undone import Undone


class AiPromptDecorator(Undone):
    """Puts fixed messages before or after those of a chat."""

    name = "ai-prompt-decorator"
    version = "3.10.0"
    priority = 772
    Config = declared.Config
