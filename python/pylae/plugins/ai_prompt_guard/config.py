# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ai-prompt-guard?"""

from __future__ import annotations

from pylae.schema import at_least_one_of, conditional
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        at_least_one_of("config.allow_patterns", "config.deny_patterns"),
        conditional("config.match_all_roles", {"eq": True}, "config.allow_all_conversation_history", {"eq": False}),
    )

    allow_patterns: list[str] | None = field(
        kinds.array(kinds.string(len_min=1, len_max=500), len_max=10),
        doc="Regular expressions of which a prompt must match at least one.",
    )
    deny_patterns: list[str] | None = field(
        kinds.array(kinds.string(len_min=1, len_max=500), len_max=10),
        doc="Regular expressions of which a prompt may match none; they win over allowed ones.",
    )
    allow_all_conversation_history: bool = field(
        kinds.boolean(), required=True, default=False, doc="Looks only at the last prompt, not at earlier ones of the chat."
    )
    max_request_body_size: int = field(
        kinds.integer(gt=0), default=8192, unit="bytes", doc="Largest request body that is looked into."
    )
    match_all_roles: bool = field(
        kinds.boolean(), required=True, default=False, doc="Looks at messages of every role, not only at those of the user."
    )
    llm_format: str = field(
        kinds.string(one_of=("openai", "bedrock", "gemini")),
        default="openai",
        doc="API format in which clients talk to the model.",
    )
