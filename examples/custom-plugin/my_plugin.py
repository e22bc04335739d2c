# SPDX-License-Identifier: Apache-2.0
"""my-plugin: may a request pass while the shop is closed?

One idea: a plugin in a user's own file. It refuses requests outside opening hours, tells the upstream which
greeting was configured and the client how long the answer took.

    pylae start -c examples/custom-plugin/kong.conf
    curl -i -X POST http://localhost:8001/services --data name=shop --data url=http://127.0.0.1:8080
    curl -i -X POST http://localhost:8001/services/shop/routes --data 'paths[]=/shop'
    curl -i -X POST http://localhost:8001/services/shop/plugins \
        --data name=my-plugin --data config.greeting=hello --data config.closes_at_hour=18
    curl -i http://localhost:8000/shop        # X-My-Plugin-Ms in the answer, X-Greeting at the upstream; 503 after 18:00
"""

from __future__ import annotations

from datetime import UTC, datetime

from pylae.sdk import Answer, Exchange, Plugin, Record, field, kinds


class MyPlugin(Plugin):
    """Lets requests pass within opening hours."""

    name = "my-plugin"
    version = "1.0.0"
    priority = 900

    class Config(Record):
        """What an administrator may set."""

        greeting: str = field(kinds.string(), required=True, doc="Sent upstream as `X-Greeting`.")
        opens_at_hour: int = field(
            kinds.integer(between=(0, 23)), default=0, unit="h", doc="First hour (UTC) that requests pass in."
        )
        closes_at_hour: int = field(
            kinds.integer(between=(1, 24)),
            default=24,
            unit="h",
            doc="First hour (UTC) that requests are refused in again.",
        )

    def access(self, exchange: Exchange, config: Config) -> Answer | None:
        """Refuses, or greets the upstream."""
        now_ms = self.host.now_ms()
        hour = datetime.fromtimestamp(now_ms / 1000, UTC).hour
        if not config.opens_at_hour <= hour < config.closes_at_hour:
            return exchange.error(503, f"closed until {config.opens_at_hour}:00 UTC")
        exchange.ctx["my-plugin"] = now_ms
        exchange.service.request.set_header("X-Greeting", config.greeting)
        return None

    def header_filter(self, exchange: Exchange, config: Config) -> None:  # noqa: ARG002 - the phase's form
        """Tells the client how long the upstream took."""
        started_ms = exchange.ctx.get("my-plugin")
        if started_ms is not None:
            exchange.response.set_header("X-My-Plugin-Ms", str(self.host.now_ms() - started_ms))
