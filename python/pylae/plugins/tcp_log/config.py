# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for tcp-log?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME


class Config(Record):
    """What an administrator may set."""

    host: str = field(kinds.string(rule="host"), required=True, doc="Name or address of the log server.")
    port: int = field(kinds.integer(between=(0, 65_535)), required=True, doc="Port of the log server.")
    timeout: float = field(
        kinds.number(), default=10_000, unit="milliseconds", doc="How long connecting and sending may each take."
    )
    keepalive: float = field(
        kinds.number(), default=60_000, unit="milliseconds", doc="How long an idle connection is kept for the next entry."
    )
    tls: bool = field(
        kinds.boolean(), required=True, default=False, doc="Speaks TLS to the log server; its certificate is not verified."
    )
    tls_sni: str | None = field(kinds.string(), doc="Name asked for in the TLS handshake.")
    custom_fields_by_lua: dict[str, str] | None = field(CODE_BY_NAME, doc="Lua code that computes further fields of an entry.")
