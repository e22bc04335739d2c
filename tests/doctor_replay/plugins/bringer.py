# SPDX-License-Identifier: Apache-2.0
"""bringer: sends a header upstream, with which others fail or which they take away."""

from __future__ import annotations

from typing import Any

from pylae.sdk import Exchange, Plugin, Record, field, kinds


class Bringer(Plugin):
    """Sets a header, if another one is there or none is asked for."""

    name = "bringer"
    priority = 100
    is_pure = True

    class Config(Record):
        header: str = field(kinds.string(), required=True, doc="What it sends.")
        value: str = field(kinds.string(), default="1", doc="Its value.")
        when: str | None = field(kinds.string(), doc="Header that must go upstream for it to do so.")

    def access(self, exchange: Exchange, config: Any) -> None:
        """Sets it."""
        upstream = exchange.service.request
        if config.when is None or upstream.get_header(config.when) is not None:
            upstream.set_header(config.header, config.value)
