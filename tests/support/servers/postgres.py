# SPDX-License-Identifier: Apache-2.0
"""How does a real PostgreSQL server answer, with a user and a password of its own?"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.ports import free_port
from tests.support.servers.server import Server

USER: Final = "gateway"
PASSWORD: Final = "postgres-own"
_RUN_AS: Final = "postgres"
"""PostgreSQL refuses to run as root: Debian's package brings this user."""


def _bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    assert found, "postgresql is not installed (scripts/ lists the packages)"
    return found[-1].parent


class PostgresServer(Server):
    """A cluster of its own, without fsync; the database is `postgres`."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(str(_bin() / "postgres"), [self.port])
        self.data = self.folder / "data"
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_RUN_AS)
            for path in (self.folder, self.folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            runuser = shutil.which("runuser")
            assert runuser, "runuser is not installed"
            self._prefix = [runuser, "-u", _RUN_AS, "--"]
        else:
            self._prefix = []
        self._server = self.program
        options = ["-A", "scram-sha-256", "-U", USER, f"--pwfile={self.folder / 'password'}", "--no-sync", "-E", "UTF8"]
        made = subprocess.run(
            [*self._prefix, str(_bin() / "initdb"), "-D", str(self.data), *options], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        if self._prefix:
            self.program = self._prefix[0]

    def arguments(self) -> list[str]:
        """Listens on loopback only."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        set_options = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [*self._prefix[1:], *([self._server] if self._prefix else []), "-D", str(self.data), *set_options]
