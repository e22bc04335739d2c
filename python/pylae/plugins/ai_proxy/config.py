# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ai-proxy?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import field, kinds
from pylae.sdk.llm_config import Llm


class Config(Llm):
    """What an administrator may set."""

    plugin_checks = (
        conditional(
            "config.llm_format",
            {"one_of": ("bedrock", "gemini")},
            "config.route_type",
            {"eq": "llm/v1/chat"},
            then_error="native provider options in llm_format can only be used with the 'llm/v1/chat' route_type",
        ),
        conditional(
            "config.llm_format",
            {"eq": "bedrock"},
            "config.model.provider",
            {"eq": "bedrock"},
            then_error="native llm_format 'bedrock' can only be used with the 'bedrock' model.provider",
        ),
        conditional(
            "config.llm_format",
            {"eq": "gemini"},
            "config.model.provider",
            {"eq": "gemini"},
            then_error="native llm_format 'gemini' can only be used with the 'gemini' model.provider",
        ),
    )

    response_streaming: str = field(
        kinds.string(one_of=("allow", "deny", "always")),
        default="allow",
        doc="Whether answers may be streamed if the client asks, never are, or always are.",
    )
    max_request_body_size: int = field(
        kinds.integer(gt=0), default=8192, unit="bytes", doc="Largest request body that is looked into."
    )
    model_name_header: bool = field(kinds.boolean(), default=True, doc="Tells clients the model in `X-Kong-LLM-Model`.")
    llm_format: str = field(
        kinds.string(one_of=("openai", "bedrock", "gemini")),
        default="openai",
        doc="API format in which clients talk to the model.",
    )
