# SPDX-License-Identifier: Apache-2.0
"""How does a real Node server take part as an upstream?"""

from __future__ import annotations

from tests.support.servers.server import Server

# `server.keepAliveTimeout` is 5,000 ms unless it is set, and Node says so in its answers: `Keep-Alive: timeout=5`.
SCRIPT = """
const server = require('node:http').createServer((request, response) => {
  request.on('data', () => {});
  request.on('end', () => response.end('node'));
});
KEEP_ALIVE
server.listen(PORT, '127.0.0.1');
"""


class Node(Server):
    """One process of `node:http`."""

    def __init__(self, port: int, keep_alive_ms: int | None = None) -> None:
        """Prepare the script.

        Args:
            port: what it listens on.
            keep_alive_ms: how long an idle connection is kept; None: Node's default.
        """
        super().__init__("node", [port])
        keep_alive = "" if keep_alive_ms is None else f"server.keepAliveTimeout = {keep_alive_ms};"
        script = SCRIPT.replace("KEEP_ALIVE", keep_alive).replace("PORT", str(port))
        (self.folder / "server.js").write_text(script)

    def arguments(self) -> list[str]:
        """The script alone."""
        return [str(self.folder / "server.js")]
