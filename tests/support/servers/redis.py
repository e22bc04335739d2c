# SPDX-License-Identifier: Apache-2.0
"""How does a real Redis server answer, with a password of its own?"""

from __future__ import annotations

from typing import Final

from tests.support.ports import free_port
from tests.support.servers.server import Server

PASSWORD: Final = "redis-own"


class RedisServer(Server):
    """`redis-server` in the foreground that writes nothing to disk."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__("redis-server", [self.port])

    def arguments(self) -> list[str]:
        """Listens on loopback, wants the password."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": PASSWORD,
            "save": "",
            "appendonly": "no",
            "dir": str(self.folder),
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]
