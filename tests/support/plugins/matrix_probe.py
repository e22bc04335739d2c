# SPDX-License-Identifier: Apache-2.0
"""How do plugins fail that ask somebody else, or send requests elsewhere?"""

from __future__ import annotations

import asyncio
from typing import Any

from pylae.sdk import Exchange, Plugin, Record, field, kinds
from pylae.sdk.auth import SystemUnavailable


class MatrixProbe(Plugin):
    """Asks an identity provider that never answers, or sends the request to a bad place."""

    name = "matrix-probe"
    version = "1.0.0"
    priority = 1400

    class Config(Record):
        """What to do."""

        idp_port: int | None = field(kinds.integer(), doc="Asks the identity provider on this port who the client is.")
        patience_ms: int = field(kinds.integer(), default=200, unit="ms", doc="How long it waits for the identity provider.")
        names_idp: bool = field(kinds.boolean(), default=False, doc="Says that it was the provider that could not be asked.")
        target_host: str | None = field(kinds.string(), doc="Sends the request to this host.")
        target_port: int = field(kinds.integer(), default=80, doc="Port of that host.")
        speaks_tls: bool = field(kinds.boolean(), default=False, doc="Speaks TLS to the upstream.")
        refuses_status: int | None = field(kinds.integer(), doc="Answers with this status.")

    async def access(self, exchange: Exchange, config: Config) -> Any:
        """Do it."""
        if config.idp_port is not None:
            try:
                await asyncio.wait_for(self._ask(config.idp_port), config.patience_ms / 1000)
            except OSError as error:
                if config.names_idp:
                    raise SystemUnavailable(f"token issuer http://127.0.0.1:{config.idp_port}", str(error)) from error
                raise
        if config.target_host is not None:
            exchange.service.set_target(config.target_host, config.target_port)
        if config.speaks_tls:
            exchange.service.request.set_scheme("https")
        if config.refuses_status is not None:
            return exchange.error(config.refuses_status, "refused by the probe")
        return None

    async def _ask(self, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST /introspect HTTP/1.1\r\nHost: idp.test\r\nContent-Length: 0\r\n\r\n")
            return await reader.readline()
        finally:
            writer.close()
