# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ai-prompt-decorator?"""

from __future__ import annotations

from pylae.schema import at_least_one_of
from pylae.sdk import Record, field, kinds


class Prompt(Record):
    """Messages put before the chat, in order."""

    role: str = field(
        kinds.string(one_of=("system", "assistant", "user")),
        required=True,
        default="system",
        doc="Role that the message is written in.",
    )
    content: str = field(kinds.string(len_min=1, len_max=500), required=True, doc="Text of the message.")


class Prompts(Record):
    """Messages to put in."""

    prepend: list[Prompt] | None = field(
        kinds.array(kinds.record(Prompt, required=False), len_max=15), doc="Messages put before the chat, in order."
    )
    append: list[Prompt] | None = field(
        kinds.array(kinds.record(Prompt, required=False), len_max=15), doc="Messages put after the chat, in order."
    )


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (at_least_one_of("config.prompts.prepend", "config.prompts.append"),)

    prompts: Prompts | None = field(kinds.record(Prompts), required=False, doc="Messages to put in.")
    max_request_body_size: int = field(
        kinds.integer(gt=0), default=8192, unit="bytes", doc="Largest request body that is looked into."
    )
    llm_format: str = field(
        kinds.string(one_of=("openai", "bedrock", "gemini")),
        default="openai",
        doc="API format in which clients talk to the model.",
    )
