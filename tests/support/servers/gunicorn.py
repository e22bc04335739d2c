# SPDX-License-Identifier: Apache-2.0
"""How does a real gunicorn take part as an upstream?"""

from __future__ import annotations

import sys

from tests.support.servers.server import Server

APPLICATION = """
def application(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "8")])
    return [b"gunicorn"]
"""


class Gunicorn(Server):
    """One worker with threads: the kind that keeps connections."""

    def __init__(self, port: int, keep_alive_s: int | None = None, threads: int = 16) -> None:
        """Prepare the application.

        Args:
            port: what it listens on.
            keep_alive_s: how long an idle connection is kept; None: gunicorn's default, 2 s.
            threads: of its one worker.
        """
        super().__init__(sys.executable, [port])
        self.port, self.keep_alive_s, self.threads = port, keep_alive_s, threads
        (self.folder / "application.py").write_text(APPLICATION)

    def arguments(self) -> list[str]:
        """In the foreground; nothing of its own configuration is read."""
        kept = [] if self.keep_alive_s is None else ["--keep-alive", str(self.keep_alive_s)]
        return [
            *("-m", "gunicorn", "--config", "/dev/null", "--bind", f"127.0.0.1:{self.port}", "--chdir", str(self.folder)),
            *("--worker-class", "gthread", "--threads", str(self.threads), "--graceful-timeout", "1", *kept),
            "application:application",
        ]
