# SPDX-License-Identifier: Apache-2.0
"""How does a real HAProxy take part: as the second load balancer, between the gateway and the origin?"""

from __future__ import annotations

from tests.support.servers.server import Server


class Haproxy(Server):
    """One thread, one frontend, one backend."""

    def __init__(self, port: int, origin_port: int) -> None:
        super().__init__("haproxy", [port])
        (self.folder / "haproxy.cfg").write_text(
            "global\n  nbthread 1\n  maxconn 200\n  no log\n"
            "defaults\n  mode http\n  option forwardfor\n  timeout connect 2s\n  timeout client 30s\n"
            "  timeout server 30s\n  timeout http-keep-alive 30s\n"
            f"frontend front\n  bind 127.0.0.1:{port}\n  default_backend origin\n"
            "  http-request set-header X-Seen-By haproxy\n"
            f"backend origin\n  http-reuse always\n  server origin 127.0.0.1:{origin_port}\n"
        )

    def arguments(self) -> list[str]:
        """In the foreground, one process."""
        return ["-db", "-f", str(self.folder / "haproxy.cfg")]
