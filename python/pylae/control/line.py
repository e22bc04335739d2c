# SPDX-License-Identifier: Apache-2.0
"""What do workers and control say to each other?

Three kinds of message share one Unix socket per worker: *config* goes down (snapshots and deltas, acknowledged by
version), *calls* come up and are answered, *streams* come up and are not. Beside them go down what an operator says
of the running gateway and no database keeps: `log_level`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from pylae.control.feed import Feed, Version
from pylae.control.frames import FrameReader, LineError, message
from pylae.errors import DatabaseError, PylaeError, StrategyUnavailable

MAX_CALLS_IN_FLIGHT: Final = 1024
"""Of one worker; it keeps within it itself, this guards control against one that does not."""
MAX_CALL_TIMEOUT_MS: Final = 60_000
ACK_WITHIN_S: Final = 5.0
"""A worker that has read a config message and does not acknowledge it by then could not use it."""
SOCKET_MODE: Final = 0o600

Call = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class StreamSink(Protocol):
    """Takes what workers stream."""

    def take(self, channel: str, items: Sequence[bytes], lost_count: int, worker: WorkerState | None = None) -> None:
        """Keeps the items and returns at once; a worker is known once it has said hello."""
        ...


class Log(Protocol):
    """Takes lines for the error log."""

    def __call__(self, level: str, text: str) -> None:
        """Writes one line."""
        ...


@dataclass
class WorkerState:
    """One connected worker, as `/status` shows it."""

    index: int
    generation: int
    pid: int
    version: Version | None
    """What it serves."""


class CallRefused(PylaeError):
    """A call names no operation, or its arguments are not what the operation takes."""

    name = "call refused"


class Hello(msgspec.Struct):
    """How a worker introduces itself."""

    worker: int
    generation: int
    pid: int
    version: tuple[str, int] | None = None


class Line(asyncio.Protocol):
    """Control's end of one worker's line."""

    def __init__(self, server: LineServer) -> None:
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, asyncio.Task[None]] = {}
        self.worker: WorkerState | None = None
        # What the worker will serve once it has applied everything that was sent.
        self._sent: Version | None = None
        # At most one config message is unacknowledged: while a worker compiles, changes gather into one delta, and
        # a worker that hangs costs no memory.
        self._awaits_ack = False
        # Whatever it serves, it gets the whole next.
        self._wants_all = False
        self._sent_at_s = 0.0

    def __repr__(self) -> str:
        return f"<line {self.worker}>"

    # === asyncio.Protocol ===

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets in only processes of the user this process runs as."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        uid = _peer_uid(transport.get_extra_info("socket"))
        if uid not in (0, os.geteuid()):
            self._server.log("warn", f"control line: a process of user {uid} was refused")
            transport.abort()
            return
        self._server.lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the worker; its calls have nobody left to answer."""
        del exc
        self._server.lines.discard(self)
        for task in self._calls.values():
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Acts on every whole message."""
        try:
            for parts in self._reader.feed(data):
                self._receive(parts)
        except (LineError, msgspec.ValidationError) as error:
            self._server.log("error", f"control line: {self.worker} was cut off: {error}")
            self.close()

    # === messages up ===

    def _receive(self, parts: list[Any]) -> None:
        match parts:
            case ["ack", version]:
                self._acknowledged(msgspec.convert(version, tuple[str, int]))
            case ["call", int(identifier), int(timeout_ms), str(operation), dict(arguments)]:
                self._start_call(identifier, timeout_ms, operation, arguments)
            case ["stream", str(channel), list(items), int(lost_count)]:
                self._server.streams.take(channel, items, lost_count, self.worker)
            case ["hello", facts]:
                self._greeted(msgspec.convert(facts, Hello))
            case _:
                raise LineError(f"an unknown message `{parts[0] if parts else ''}` of {len(parts)} parts")

    def _greeted(self, hello: Hello) -> None:
        self.worker = WorkerState(hello.worker, hello.generation, hello.pid, hello.version)
        self._sent = hello.version
        self._awaits_ack = False
        if self._server.feed is None:
            self._write(message("unavailable", {"database_id": None, "reason": self._server.unavailable_reason}))
        else:
            self._send_config(self._server.feed)
        for greet in self._server.greetings:
            self._write(greet())

    def _acknowledged(self, version: Version) -> None:
        if self.worker is None:
            raise LineError("an ack before hello")
        self.worker.version = version
        if version == self._sent:
            self._awaits_ack = False
            self.refresh()

    def _start_call(self, identifier: int, timeout_ms: int, operation: str, arguments: dict[str, Any]) -> None:
        if len(self._calls) >= MAX_CALLS_IN_FLIGHT or identifier in self._calls:
            self._refuse(identifier, "overloaded", f"more than {MAX_CALLS_IN_FLIGHT} calls in flight")
            return
        timeout_s = min(max(timeout_ms, 0), MAX_CALL_TIMEOUT_MS) / 1000
        task = asyncio.get_running_loop().create_task(self._answer(identifier, timeout_s, operation, arguments))
        self._calls[identifier] = task

    async def _answer(self, identifier: int, timeout_s: float, operation: str, arguments: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                value = await self._server.call(operation, arguments)
            self._reply(identifier, value, is_ok=True)
        except TimeoutError:
            self._refuse(identifier, "timeout", f"`{operation}` took longer than {timeout_s:g} s")
        except StrategyUnavailable as error:
            self._refuse(identifier, "unavailable", str(error))
        except DatabaseError as error:
            self._refuse(identifier, error.body()["name"], error.message)
        except CallRefused as error:
            self._refuse(identifier, error.name, str(error))
        except Exception as error:
            self._refuse(identifier, "internal error", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._calls.pop(identifier, None)

    def _refuse(self, identifier: int, name: str, text: str) -> None:
        self._reply(identifier, {"error": name, "message": text}, is_ok=False)

    def _reply(self, identifier: int, value: Any, *, is_ok: bool) -> None:
        self._write(message("reply", identifier, is_ok, value))

    # === messages down ===

    def refresh(self) -> None:
        """Sends what is new, unless the worker is still busy with the last."""
        feed = self._server.feed
        if feed is None or self.worker is None or (self._sent == feed.version and not self._wants_all):
            return
        if self._awaits_ack:
            if not self._has_refused():
                return
            self._sent = None
        self._send_config(feed)

    def _has_refused(self) -> bool:
        """Whether the last message was read and not taken; the next change may be what makes the whole fit again."""
        assert self._transport is not None
        is_read = self._transport.get_write_buffer_size() == 0
        return is_read and asyncio.get_running_loop().time() - self._sent_at_s > ACK_WITHIN_S

    def _send_config(self, feed: Feed) -> None:
        self._write(feed.since(None if self._wants_all else self._sent))
        self._wants_all = False
        self._sent = feed.version
        self._awaits_ack = True
        self._sent_at_s = asyncio.get_running_loop().time()

    def send(self, data: bytes) -> None:
        """Sends a message that is no configuration, to a worker that has said hello."""
        if self.worker is not None:
            self._write(data)

    def send_all(self) -> None:
        """Sends the whole configuration anew, once the worker is free: it forgets every row that it looked up."""
        self._wants_all = True
        self.refresh()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Ends the line."""
        if self._transport is not None:
            self._transport.abort()


class LineServer:
    """Control's side of all workers' lines.

    Args:
        path: of the Unix socket.
        call: answers calls.
        streams: takes what workers stream.
        log: takes lines for the error log.
    """

    def __init__(self, path: Path, call: Call, streams: StreamSink, log: Log) -> None:
        self.call = call
        self.streams = streams
        self.log = log
        self.feed: Feed | None = None
        self.unavailable_reason = "the database is not open yet"
        self.lines: set[Line] = set()
        self.greetings: list[Callable[[], bytes]] = []
        """Make what a worker is told after its first configuration; see `greet_with`."""
        self._path = path
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<line server {self._path} workers={len(self.lines)}>"

    async def start(self) -> None:
        """Begins to listen; a socket that an earlier control process left behind is replaced."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        # No longer than the name it gets: the path of a Unix socket may have 107 bytes.
        temporary = self._path.with_name(f"{os.getpid()}.sock")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(temporary))
        except OSError as error:
            listener.close()
            raise LineError(f"`{self._path}` cannot be listened on: {error}") from error
        temporary.chmod(SOCKET_MODE)
        listener.listen(128)
        listener.settimeout(0)
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: Line(self), sock=listener)
        # Renamed only now: whoever finds the socket can connect, and nobody ever finds it with another mode.
        temporary.rename(self._path)

    def serve(self, feed: Feed) -> None:
        """The database is open: from now on workers get its configuration."""
        self.feed = feed
        self.push()

    def push(self) -> None:
        """Sends what is new to every worker that is ready for it."""
        for line in tuple(self.lines):
            line.refresh()

    def greet_with(self, make: Callable[[], bytes]) -> None:
        """From now on every worker is told this after its first configuration; those that are here are told now."""
        self.greetings.append(make)
        self.tell(make())

    def tell(self, data: bytes) -> None:
        """Sends one message that is no configuration to every worker."""
        for line in tuple(self.lines):
            line.send(data)

    def forget_lookups(self) -> None:
        """Makes every worker forget the rows that it looked up."""
        for line in tuple(self.lines):
            line.send_all()

    def workers(self) -> list[WorkerState]:
        """Connected workers in order of generation and index."""
        states = [line.worker for line in self.lines if line.worker is not None]
        return sorted(states, key=lambda state: (state.generation, state.index))

    async def stop(self) -> None:
        """Ends every line."""
        if self._server is not None:
            self._server.close()
        for line in tuple(self.lines):
            line.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _peer_uid(connection: socket.socket) -> int:
    """Who connected (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
