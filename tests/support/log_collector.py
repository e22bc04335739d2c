# SPDX-License-Identifier: Apache-2.0
"""What do log plugins send?"""

from __future__ import annotations

import json
from typing import Any

from tests.support.origin import Connection


class LogCollector:
    """The behaviour of an endpoint that takes log entries; it may refuse the first few calls."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.calls: list[Any] = []
        self.types: list[str | None] = []

    def __call__(self, connection: Connection) -> None:
        while True:
            received = connection.read_head()
            body = connection.read_body(received)
            refused = self.refusals > 0
            self.refusals -= refused
            if not refused:
                self.calls.append(json.loads(body))
                self.types.append(received.header("Content-Type"))
            status = "500 No" if refused else "200 OK"
            connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All entries, however many came in one call."""
        return [entry for call in self.calls for entry in (call if isinstance(call, list) else [call])]
