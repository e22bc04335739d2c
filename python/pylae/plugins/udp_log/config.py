# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for udp-log?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME


class Config(Record):
    """What an administrator may set."""

    host: str = field(kinds.string(rule="host"), required=True, doc="Name or address of the log server.")
    port: int = field(kinds.integer(between=(0, 65_535)), required=True, doc="Port of the log server.")
    timeout: float = field(kinds.number(), default=10_000, unit="milliseconds", doc="How long sending may take.")
    custom_fields_by_lua: dict[str, str] | None = field(CODE_BY_NAME, doc="Lua code that computes further fields of an entry.")
