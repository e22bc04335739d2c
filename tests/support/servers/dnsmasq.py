# SPDX-License-Identifier: Apache-2.0
"""How does a real dnsmasq answer for names of our own?"""

from __future__ import annotations

from tests.support.ports import free_port
from tests.support.servers.server import Server


class Dnsmasq(Server):
    """One dnsmasq that knows what its lines say, and asks nobody else.

    Attributes:
        port: where it answers.
    """

    def __init__(self, *lines: str) -> None:
        """Prepare the folder; `lines` are those of its configuration file."""
        self.port = free_port()
        super().__init__("dnsmasq", [self.port])
        configuration = [
            f"port={self.port}",
            "listen-address=127.0.0.1",
            "bind-interfaces",
            "no-resolv",
            "no-hosts",
            "keep-in-foreground",
            "user=root",
            f"pid-file={self.folder}/pid",
            "local=/test/",
            *lines,
        ]
        (self.folder / "dnsmasq.conf").write_text("\n".join(configuration) + "\n")

    def arguments(self) -> list[str]:
        """Its own configuration; nothing of the system's is read."""
        return [f"--conf-file={self.folder}/dnsmasq.conf"]
