# SPDX-License-Identifier: Apache-2.0
"""ai-prompt-guard: what may clients ask a language model?

Those who must keep certain topics or data away from a model.
"""

from __future__ import annotations

from pylae.plugins.ai_prompt_guard import config as declared
from pylae.sdk.undone import Undone


class AiPromptGuard(Undone):
    """Lets prompts through, or refuses them, by regular expressions."""

    name = "ai-prompt-guard"
    version = "3.10.0"
    priority = 771
    Config = declared.Config
