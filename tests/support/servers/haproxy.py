# SPDX-License-Identifier: Apache-2.0
"""How does a real HAProxy take part: as the second load balancer, between the gateway and the origin, or as an origin?"""

from __future__ import annotations

import contextlib
import signal

from tests.support import processes
from tests.support.servers.server import Server
from tests.support.wait import until

GLOBAL = "global\n  nbthread 1\n  maxconn 200\n  no log\n"


class Haproxy(Server):
    """One thread, one frontend, one backend."""

    def __init__(self, port: int, origin_port: int) -> None:
        super().__init__("haproxy", [port])
        self._write(
            "defaults\n  mode http\n  option forwardfor\n  timeout connect 2s\n  timeout client 30s\n"
            "  timeout server 30s\n  timeout http-keep-alive 30s\n"
            f"frontend front\n  bind 127.0.0.1:{port}\n  default_backend origin\n"
            "  http-request set-header X-Seen-By haproxy\n"
            f"backend origin\n  http-reuse always\n  server origin 127.0.0.1:{origin_port}\n"
        )

    def _write(self, sections: str) -> None:
        (self.folder / "haproxy.cfg").write_text(GLOBAL + sections)

    def arguments(self) -> list[str]:
        """In the foreground, one process."""
        return ["-db", "-f", str(self.folder / "haproxy.cfg")]


class HaproxyOrigin(Haproxy):
    """Answers every request itself; a master process that can be told to reload."""

    def __init__(self, port: int, keep_alive_s: int) -> None:
        """Prepare the configuration.

        Args:
            port: what it listens on.
            keep_alive_s: how long an idle connection is kept; HAProxy has no default of its own.
        """
        super().__init__(port, port)
        self._write(
            f"defaults\n  mode http\n  timeout client 30s\n  timeout http-keep-alive {keep_alive_s}s\n"
            f"frontend front\n  bind 127.0.0.1:{port}\n"
            "  http-request return status 200 content-type text/plain string haproxy\n"
        )

    def arguments(self) -> list[str]:
        """In the foreground, a master with its worker."""
        return ["-W", "-f", str(self.folder / "haproxy.cfg")]

    def start(self) -> None:
        """Start it and wait until its master takes signals."""
        super().start()
        until(self._loadings, "HAProxy's master to have loaded")

    def reload(self) -> None:
        """Have a new worker take over, and wait for it; the old one leaves when it has answered what it took."""
        assert self.process
        master, before = self.process.pid, self._loadings()
        for _ in range(10):  # a master that has only just loaded loses the signal (2.6)
            processes.send(master, signal.SIGUSR2)
            with contextlib.suppress(AssertionError):
                until(lambda: self._loadings() > before, "HAProxy to load anew", 1)
                return
        raise AssertionError(f"HAProxy does not reload: {self.output()}")

    def _loadings(self) -> int:
        return (self.folder / "output").read_text(errors="replace").count("Loading success")

    def _end(self) -> None:
        super()._end()
        (self.folder / "output").unlink(missing_ok=True)
