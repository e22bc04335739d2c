# SPDX-License-Identifier: Apache-2.0
"""What does the upstream do, byte by byte, and what did it receive?"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.wait import until

READ_BYTES = 65536
# The recorded origins closed this long after their bytes (tests/cases/transcripts/ORIGINS.md).
CLOSE_AFTER_S = 0.1


class Gone(Exception):
    """The gateway closed or reset its connection."""


@dataclass
class Received:
    """One request as the origin saw it."""

    connection: int
    head: bytes
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def request_line(self) -> str:
        """Method, target and version as sent."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        """Method as sent."""
        return self.request_line.split(" ")[0]

    @property
    def target(self) -> str:
        """Path and query as sent."""
        return self.request_line.split(" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header lines in order, names in their case."""
        lines = self.head.split(b"\r\n")[1:]
        pairs = [line.decode("latin-1").partition(":") for line in lines if line]
        return [(name, value.strip()) for name, _, value in pairs]

    def all(self, name: str) -> list[str]:
        """Every value of a header, any case of the name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header; None when absent."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Connection:
    """One accepted connection, in its own thread."""

    def __init__(self, origin: Origin, link: socket.socket, number: int) -> None:
        self.origin, self.socket, self.number = origin, link, number
        self._unread = b""

    def receive(self, limit_bytes: int = READ_BYTES) -> bytes:
        """Some bytes.

        Raises:
            Gone: the gateway closed or reset.
        """
        if self._unread:
            data, self._unread = self._unread[:limit_bytes], self._unread[limit_bytes:]
            return data
        try:
            data = self.socket.recv(limit_bytes)
        except OSError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed")
        return data

    def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and with the mark."""
        data = b""
        while mark not in data:
            data += self.receive()
        end = data.index(mark) + len(mark)
        self._unread = data[end:] + self._unread
        return data[:end]

    def read_exactly(self, count: int) -> bytes:
        """This many bytes."""
        data = bytearray()
        while len(data) < count:
            data += self.receive(min(READ_BYTES, count - len(data)))
        return bytes(data)

    def read_head(self) -> Received:
        """Up to the blank line after a request head; the request is on record from here on."""
        received = Received(self.number, self.read_until(b"\r\n\r\n"))
        self.origin.record(received)
        return received

    def read_body(self, received: Received) -> bytes:
        """The body that the head announces, kept in the record."""
        if any("chunked" in value.lower() for value in received.all("Transfer-Encoding")):
            while size_bytes := int(self.read_until(b"\r\n").split(b";")[0], 16):
                received.body += self.read_exactly(size_bytes + 2)[:-2]
            while (line := self.read_until(b"\r\n")) != b"\r\n":
                name, _, value = line.decode("latin-1").partition(":")
                received.trailers.append((name, value.strip()))
        elif length := received.header("Content-Length"):
            received.body = self.read_exactly(int(length))
        return received.body

    def discard_body(self, received: Received) -> int:
        """Read the announced body without keeping it; its length in bytes."""
        length = received.header("Content-Length")
        if length is not None:
            missing_bytes = int(length)
            while missing_bytes:
                missing_bytes -= len(self.receive(min(READ_BYTES, missing_bytes)))
            return int(length)
        total_bytes = 0
        while size_bytes := int(self.read_until(b"\r\n").split(b";")[0], 16):
            missing_bytes = size_bytes
            while missing_bytes:
                missing_bytes -= len(self.receive(min(READ_BYTES, missing_bytes)))
            self.read_until(b"\r\n")
            total_bytes += size_bytes
        self.read_until(b"\r\n")
        return total_bytes

    def send(self, data: bytes) -> None:
        """Send all of these bytes.

        Raises:
            Gone: the gateway closed or reset.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def pause(self, for_s: float) -> None:
        """Do nothing for so long, or until the origin is stopped."""
        self.origin.stopping.wait(for_s)

    def wait_gone(self, within_s: float = 10.0) -> None:
        """Read until the gateway closes.

        Raises:
            AssertionError: it did not.
        """
        deadline_s = time.monotonic() + within_s
        self.socket.settimeout(within_s)
        with contextlib.suppress(Gone):
            while time.monotonic() < deadline_s:
                self.receive()
            raise AssertionError(f"the gateway kept its connection for {within_s:g} s")

    def close(self) -> None:
        """FIN."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Behaviour = Callable[[Connection], None]


class Origin:
    """A listening socket whose every connection runs one behaviour in its own thread.

    Attributes:
        connections: how many were accepted.
        requests: every request head that was read whole, with its body once read.
        failures: what went wrong in the behaviours themselves, apart from the gateway leaving.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        self.behaviour, self.tls = behaviour, tls
        self.connections = 0
        self.open_connections = 0
        self.requests: list[Received] = []
        self.failures: list[BaseException] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._links: set[socket.socket] = set()
        self._listener = listener or socket.create_server(("127.0.0.1", port), backlog=1024)
        self.address: str = self._listener.getsockname()[0]
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"origin:{self.port}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What a Service's `url` says."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}/"

    @property
    def last(self) -> Received:
        """The newest request."""
        assert self.requests, "the origin received no request"
        return self.requests[-1]

    def record(self, received: Received) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(received)

    def forget(self) -> None:
        """Begin counting anew."""
        with self._lock:
            self.connections = 0
            self.requests.clear()

    def wait_requests(self, count: int, within_s: float = 5.0) -> list[Received]:
        """Wait until so many requests have come."""
        until(lambda: len(self.requests) >= count, f"{count} requests at the origin, got {len(self.requests)}", within_s)
        return self.requests

    def wait_idle(self, within_s: float = 5.0) -> None:
        """Wait until no connection is open."""
        until(lambda: self.open_connections == 0, "the origin's connections to close", within_s)

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in list(self._links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open_connections += 1
                number = self.connections
            self._links.add(link)
            threading.Thread(target=self._serve, args=(link, number), name=f"origin:{self.port}#{number}", daemon=True).start()

    def _serve(self, link: socket.socket, number: int) -> None:
        raw = link
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                link = self.tls.wrap_socket(link, server_side=True)
            connection = Connection(self, link, number)
            self.behaviour(connection)
        except (Gone, OSError):
            pass
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            with contextlib.suppress(OSError):
                link.close()
            with self._lock:
                self.open_connections -= 1
                self._links.discard(raw)


# === behaviours ===


def answer(
    body: bytes = b"",
    *lines: str,
    status: str = "200 OK",
    keep_alive: bool = True,
    length: bool = True,
) -> Behaviour:
    """Read whole requests and answer each with this body; `lines` are header lines without CRLF."""
    head = [f"HTTP/1.1 {status}", *lines]
    if length:
        head.append(f"Content-Length: {len(body)}")
    reply = "\r\n".join([*head, "", ""]).encode("latin-1")

    def serve(connection: Connection) -> None:
        while True:
            received = connection.read_head()
            connection.read_body(received)
            connection.send(reply if received.method == "HEAD" else reply + body)
            if not keep_alive:
                connection.close()
                return

    return serve


def echo_reply(received: Received) -> bytes:
    """What the recorded good origin answered: the request as it came, after `you sent:`."""
    body = b"you sent:\n" + received.head + received.body
    head = f"HTTP/1.1 200 OK\r\nServer: mock\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if received.method == "HEAD" else body)


def good(connection: Connection) -> None:
    """Answer every request with the request itself; connections stay open."""
    while True:
        received = connection.read_head()
        connection.read_body(received)
        connection.send(echo_reply(received))


def send_then_close(data: bytes, after_s: float = CLOSE_AFTER_S) -> Behaviour:
    """Read one head, send these bytes, close (FIN) a moment later."""

    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(data)
        connection.pause(after_s)
        connection.close()

    return serve


def close_on_accept(connection: Connection) -> None:
    """Close with the request unread in the kernel, so that the gateway sees RST as in the recording, never FIN."""
    connection.socket.recv(1, socket.MSG_PEEK)
    connection.socket.close()


def early_close(connection: Connection) -> None:
    """Read a head, close without a byte."""
    connection.read_head()
    connection.close()


def reset(connection: Connection) -> None:
    """Read a head, close with RST."""
    connection.read_head()
    connection.reset()


def plain_to_tls(connection: Connection) -> None:
    """Answer TLS bytes in plain HTTP: only an answer makes OpenSSL say `wrong version number`, as was recorded."""
    connection.receive()
    connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()


def silent(connection: Connection) -> None:
    """Read a head, say nothing for 20 s."""
    connection.read_head()
    connection.pause(20)


def _ok(*lines: str, body: bytes = b"") -> Behaviour:
    return send_then_close("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1") + body)


# Name of a transcript → what its origin did. refused, connect_timeout, the DNS ones and those
# with nginx behind them need more than a behaviour: see tests/journey/test_transcripts.py.
RECORDED: dict[str, Behaviour] = {
    "close_on_accept": close_on_accept,
    "early_close": early_close,
    "early_close_noretry": early_close,
    "partial_header": send_then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "truncated_body": _ok("Content-Type: text/plain", "Content-Length: 100", body=b"0123456789"),
    "reset": reset,
    "read_timeout": silent,
    "read_timeout_noretry": silent,
    "big_headers": _ok("X-Big: " + "a" * 70_000, "Content-Length: 2", body=b"ok"),
    "garbage_status": send_then_close(b"this is not http\r\n\r\n"),
    "bad_header": _ok("Bad Header\0Name: x", "Content-Length: 2", body=b"ok"),
    "truncated_chunked": _ok("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
    "bad_chunk": _ok("Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n"),
    "dup_content_length": _ok("Content-Length: 2", "Content-Length: 3", body=b"ok"),
    "cl_and_te": _ok("Content-Length: 2", "Transfer-Encoding: chunked", body=b"ok"),
    "good": good,
    "https_to_plain_port": plain_to_tls,
}


class FullBacklog:
    """A listening socket whose queue is kept full, so that a further connect is neither accepted nor refused."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def stop(self) -> None:
        """Give the port back."""
        for link in [*self._fillers, self._listener]:
            link.close()
