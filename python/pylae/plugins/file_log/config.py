# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for file-log?"""

from __future__ import annotations

from pylae.schema import Pattern
from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME


class Config(Record):
    """What an administrator may set."""

    path: str = field(
        kinds.string(
            match=Pattern(r"^[^%s*&%%\`][^*&%%\`]*[^%s*&%%\`]$", r"^[^\s*\&%\\`][^*\&%\\`]*[^\s*\&%\\`]$"),
            error="not a valid filename",
        ),
        required=True,
        doc="File lines are added to; it is made when it is missing.",
    )
    reopen: bool = field(
        kinds.boolean(), required=True, default=False, doc="Opens the file anew for each line, so that it can be rotated."
    )
    custom_fields_by_lua: dict[str, str] | None = field(CODE_BY_NAME, doc="Lua code that computes further fields of an entry.")
