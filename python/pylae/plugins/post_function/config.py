# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for post-function?"""

from __future__ import annotations

from pylae.schema import at_least_one_of
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (
        at_least_one_of(
            "config.certificate", "config.rewrite", "config.access", "config.header_filter", "config.body_filter", "config.log"
        ),
    )

    certificate: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order while the TLS certificate is chosen."
    )
    rewrite: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order before a Route is looked for."
    )
    access: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order before the request goes upstream."
    )
    header_filter: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order when the response headers are there."
    )
    body_filter: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order for each piece of the response body."
    )
    log: list[str] = field(
        kinds.array(kinds.string()), required=True, default=[], doc="Lua chunks run in order after the response was sent."
    )
