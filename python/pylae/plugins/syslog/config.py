# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for syslog?"""

from __future__ import annotations

from typing import Final

from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME

SEVERITIES: Final = ("debug", "info", "notice", "warning", "err", "crit", "alert", "emerg")


class Config(Record):
    """What an administrator may set."""

    log_level: str = field(kinds.string(one_of=SEVERITIES), required=True, default="info", doc="Lowest severity that is logged.")
    successful_severity: str = field(
        kinds.string(one_of=SEVERITIES), required=True, default="info", doc="Severity of answers with a status below 400."
    )
    client_errors_severity: str = field(
        kinds.string(one_of=SEVERITIES), required=True, default="info", doc="Severity of answers with a status from 400 to 499."
    )
    server_errors_severity: str = field(
        kinds.string(one_of=SEVERITIES), required=True, default="info", doc="Severity of answers with a status of 500 or more."
    )
    custom_fields_by_lua: dict[str, str] | None = field(CODE_BY_NAME, doc="Lua code that computes further fields of an entry.")
    facility: str = field(
        kinds.string(
            one_of=(
                "auth",
                "authpriv",
                "cron",
                "daemon",
                "ftp",
                "kern",
                "lpr",
                "mail",
                "news",
                "syslog",
                "user",
                "uucp",
                "local0",
                "local1",
                "local2",
                "local3",
                "local4",
                "local5",
                "local6",
                "local7",
            )
        ),
        required=True,
        default="user",
        doc="Facility messages are logged under.",
    )
