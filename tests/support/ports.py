# SPDX-License-Identifier: Apache-2.0
"""Which TCP ports may a test listen on without meeting anyone else?"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the kernel's range for outgoing connections (32768-60999): a port picked there may be taken by a client
# between the pick and the bind.
LOWEST, HIGHEST = 20000, 32000

_random = random.Random(os.getpid())
_held: list[int] = []


def free_port() -> int:
    """A port that nobody listens on and that no other test process will be given while this one lives."""
    folder = Path(tempfile.gettempdir(), "pylae-test-ports")
    folder.mkdir(exist_ok=True)
    for _ in range(1000):
        port = _random.randrange(LOWEST, HIGHEST)
        lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("0.0.0.0", port))
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        return port
    raise AssertionError(f"no free port between {LOWEST} and {HIGHEST}")
