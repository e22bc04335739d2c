# SPDX-License-Identifier: Apache-2.0
"""ai-prompt-template: how does a client ask a language model without writing the prompt?

Those who let clients choose among prepared prompts instead of writing their own.
"""

from __future__ import annotations

from pylae.plugins.ai_prompt_template import config as declared
from pylae.sdk.undone import Undone


class AiPromptTemplate(Undone):
    """Replaces references to named templates by prompts filled with values of the request."""

    name = "ai-prompt-template"
    version = "3.10.0"
    priority = 773
    Config = declared.Config
