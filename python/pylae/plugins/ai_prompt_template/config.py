# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for ai-prompt-template?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Template(Record):
    """Templates that requests may refer to."""

    name: str = field(kinds.string(), required=True, doc="Name that requests refer to, as `{template://name}`.")
    template: str = field(kinds.string(), required=True, doc="Text of the prompt, with `{{name}}` where a value goes in.")


class Config(Record):
    """What an administrator may set."""

    templates: list[Template] = field(
        kinds.array(kinds.record(Template)), required=True, doc="Templates that requests may refer to."
    )
    allow_untemplated_requests: bool = field(
        kinds.boolean(), required=True, default=True, doc="Lets requests through that refer to no template."
    )
    log_original_request: bool = field(
        kinds.boolean(), required=True, default=False, doc="Adds the request as it came to log entries."
    )
    max_request_body_size: int = field(
        kinds.integer(gt=0), default=8192, unit="bytes", doc="Largest request body that is looked into."
    )
