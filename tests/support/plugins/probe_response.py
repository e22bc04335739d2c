# SPDX-License-Identifier: Apache-2.0
"""What does a plugin see that waits for the upstream's whole answer?"""

from __future__ import annotations

from typing import Any

from pylae.sdk import Exchange, Plugin, Record, field, kinds


class ProbeResponse(Plugin):
    """Answers with what it saw of the upstream's answer, or passes it on."""

    name = "probe-response"
    version = "1.0.0"
    priority = 600

    class Config(Record):
        """What to do with the answer."""

        replace: bool = field(kinds.boolean(), default=False, doc="Answers in the upstream's place.")

    def response(self, exchange: Exchange, config: Config) -> Any:
        """See the whole answer."""
        seen = exchange.service.response
        exchange.response.set_header("X-Seen", f"{seen.status} {len(seen.body or b'')}")
        if config.replace:
            return exchange.answer(299, {"length": len(seen.body or b"")})
        return None
