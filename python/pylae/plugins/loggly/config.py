# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for loggly?"""

from __future__ import annotations

from typing import Final

from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME

SEVERITIES: Final = ("debug", "info", "notice", "warning", "err", "crit", "alert", "emerg")


class Config(Record):
    """What an administrator may set."""

    host: str = field(kinds.string(rule="host"), default="logs-01.loggly.com", doc="Name or address of the Loggly server.")
    port: int = field(kinds.integer(between=(0, 65_535)), default=514, doc="Port of the Loggly server.")
    key: str = field(kinds.string(), required=True, referenceable=True, secret=True, doc="Customer token of the Loggly account.")
    tags: list[str] = field(kinds.set_of(kinds.string()), default=["kong"], doc="Tags each message gets.")
    log_level: str = field(kinds.string(one_of=SEVERITIES), default="info", doc="Lowest severity that is logged.")
    successful_severity: str = field(
        kinds.string(one_of=SEVERITIES), default="info", doc="Severity of answers with a status below 400."
    )
    client_errors_severity: str = field(
        kinds.string(one_of=SEVERITIES), default="info", doc="Severity of answers with a status from 400 to 499."
    )
    server_errors_severity: str = field(
        kinds.string(one_of=SEVERITIES), default="info", doc="Severity of answers with a status of 500 or more."
    )
    timeout: float = field(kinds.number(), default=10_000, unit="milliseconds", doc="How long sending may take.")
    custom_fields_by_lua: dict[str, str] | None = field(CODE_BY_NAME, doc="Lua code that computes further fields of an entry.")
