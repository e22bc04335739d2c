# SPDX-License-Identifier: Apache-2.0
"""What does control tell a worker? One that a test looks through."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pylae.control.frames import FrameReader, message

WITHIN_S = 5.0


class ListeningWorker:
    """A worker that says hello, acknowledges every configuration, keeps what it is told, and says what a test wants.

    Args:
        prefix: of the gateway.
        pid: of the worker.
        index: of the worker.
    """

    def __init__(self, prefix: Path, pid: int = 4711, index: int = 0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WITHIN_S)
        self._socket.connect(str(prefix / "sockets" / "control.sock"))
        self._frames = FrameReader()
        self.received: list[list[Any]] = []
        self._socket.sendall(message("hello", {"worker": index, "generation": 1, "pid": pid, "version": None}))
        self.next(lambda parts: parts[0] == "snapshot")

    def next(self, is_wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """The next message that is wanted; those before it are kept in `received`."""
        while True:
            while self.received:
                parts = self.received.pop(0)
                if is_wanted(parts):
                    return parts
            data = self._socket.recv(65536)
            assert data, "the line was closed"
            for parts in self._frames.feed(data):
                if parts[0] == "snapshot":
                    self._socket.sendall(message("ack", parts[1]["version"]))
                elif parts[0] == "delta":
                    self._socket.sendall(message("ack", [parts[1]["database_id"], parts[1]["to"]]))
                self.received.append(parts)

    def stream(self, channel: str, *items: bytes, lost_count: int = 0) -> None:
        """Sends what nobody answers."""
        self._socket.sendall(message("stream", channel, list(items), lost_count))

    def told(self, name: str) -> Any:
        """The body of the next message of this name."""
        return self.next(lambda parts: parts[0] == name)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()
