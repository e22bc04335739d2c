# SPDX-License-Identifier: Apache-2.0
"""What exactly comes back when these exact bytes are sent?"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

READ_BYTES = 65536
STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) (\d{3})(?: ([^\r\n]*))?")


class ClosedEarly(AssertionError):
    """The peer closed (or reset) the connection in the middle of a reply, or before one.

    Attributes:
        reply: what was read of the reply; its body may be partial; None when no complete head came.
        received: every byte that came.
    """

    def __init__(self, reason: str, received: bytes, reply: Reply | None = None) -> None:
        super().__init__(f"{reason} after {received[:200]!r} ({len(received)} bytes)")
        self.received = received
        self.reply = reply


@dataclass
class Reply:
    """One response as it stood on the wire; names and values keep their case and order."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    raw_body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header, any case of the name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header; None when absent.

        Raises:
            AssertionError: the header came twice.
        """
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    @property
    def request_id(self) -> str:
        """The id under which the logs speak of this request."""
        value = self.header("X-Kong-Request-Id")
        assert value, f"no X-Kong-Request-Id in {self.headers}"
        return value


def parse_head(head: bytes) -> Reply:
    """A status line and header lines, without the blank line, every line ended by CRLF."""
    first, *lines = head.split(b"\r\n")
    match = STATUS_LINE.fullmatch(first)
    assert match, f"not a status line: {first!r}"
    return Reply(
        version=match[1].decode(),
        status=int(match[2]),
        reason=(match[3] or b"").decode(),
        headers=[_header(line) for line in lines if line],
    )


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    assert colon, f"not a header line: {line!r}"
    return name.decode("latin-1"), value.strip(b" \t").decode("latin-1")


class Client:
    """One connection. Nothing is sent or read but what the test says."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout_s: float = 10.0) -> None:
        self.socket: socket.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self._unread = b""

    @classmethod
    def tls(cls, port: int, server_name: str | None = None, context: ssl.SSLContext | None = None) -> Client:
        """A connection with TLS on it; the certificate is not checked unless the context does."""
        client = cls(port)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        client.socket = context.wrap_socket(client.socket, server_hostname=server_name)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """Our end's port: tells this connection from others."""
        port: int = self.socket.getsockname()[1]
        return port

    def send(self, data: bytes) -> Client:
        """Send all of these bytes."""
        self.socket.sendall(data)
        return self

    def finish_sending(self) -> Client:
        """FIN our way; the peer may go on sending."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        """FIN (RST when bytes of the peer are unread in the kernel)."""
        self.socket.close()

    def reset(self) -> None:
        """RST now."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> bytes:
        """Some bytes; empty at the end.

        Raises:
            ClosedEarly: the peer sent RST.
        """
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        try:
            data = self.socket.recv(READ_BYTES)
        except (ConnectionResetError, ssl.SSLError) as error:
            raise ClosedEarly(f"reset ({error})", self.received) from error
        if len(self.received) < 1 << 20:
            self.received += data
        return data

    def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and with the mark.

        Raises:
            ClosedEarly: the connection ended before the mark.
        """
        data = b""
        while mark not in data:
            more = self.receive()
            if not more:
                raise ClosedEarly(f"closed before {mark!r}", data)
            data += more
        found, self._unread = data[: data.index(mark) + len(mark)], data[data.index(mark) + len(mark) :]
        return found

    def read_exactly(self, count: int) -> bytes:
        """This many bytes.

        Raises:
            ClosedEarly: the connection ended before.
        """
        parts: list[bytes] = []
        missing_bytes = count
        while missing_bytes:
            try:
                more = self.receive()
            except ClosedEarly as error:
                raise ClosedEarly(str(error), b"".join(parts)) from error
            if not more:
                raise ClosedEarly(f"closed {missing_bytes} bytes early", b"".join(parts))
            parts.append(more[:missing_bytes])
            self._unread = more[missing_bytes:] + self._unread
            missing_bytes -= len(parts[-1])
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        """Everything until the peer's FIN."""
        parts: list[bytes] = []
        while more := self.receive():
            parts.append(more)
        return b"".join(parts)

    def read_head(self) -> Reply:
        """The next head, interim responses (1xx) counted and passed over."""
        interim: list[int] = []
        while True:
            reply = parse_head(self.read_until(b"\r\n\r\n")[:-4])
            if reply.status >= 200 or reply.status == 101:
                reply.interim = interim
                return reply
            interim.append(reply.status)

    def read_reply(self, method: str = "GET") -> Reply:
        """One whole response.

        Args:
            method: of the request; a response to HEAD has no body.

        Raises:
            ClosedEarly: the connection ended before the response did; its `reply` holds what came.
        """
        reply = self.read_head()
        if method == "HEAD" or reply.status in (204, 304):
            return reply
        try:
            if "chunked" in (reply.header("Transfer-Encoding") or "").lower():
                self._read_chunked(reply)
            elif (length := reply.header("Content-Length")) is not None:
                reply.body = self.read_exactly(int(length))
                reply.raw_body = reply.body
            else:
                reply.body = reply.raw_body = self.read_to_end()
        except ClosedEarly as error:
            if not reply.body:
                reply.body = error.received
            raise ClosedEarly(str(error), error.received, reply) from error
        return reply

    def _read_chunked(self, reply: Reply) -> None:
        while True:
            line = self.read_until(b"\r\n")
            reply.raw_body += line
            size_bytes = int(line.split(b";")[0], 16)
            if not size_bytes:
                break
            data = self.read_exactly(size_bytes + 2)
            assert data.endswith(b"\r\n"), f"chunk without CRLF: {data[-10:]!r}"
            reply.raw_body += data
            reply.body += data[:-2]
        while (line := self.read_until(b"\r\n")) != b"\r\n":
            reply.raw_body += line
            reply.trailers.append(_header(line[:-2]))
        reply.raw_body += line

    def is_closed(self, within_s: float = 3.0) -> bool:
        """Whether the peer closes (FIN or RST) without a further byte."""
        self.socket.settimeout(within_s)
        try:
            return not self.receive()
        except ClosedEarly:
            return True
        except TimeoutError:
            return False

    def is_silent(self, for_s: float = 0.3) -> bool:
        """Whether the peer neither sends nor closes for so long."""
        self.socket.settimeout(for_s)
        try:
            self._unread = self.receive()
        except TimeoutError:
            return True
        except ClosedEarly:
            return False
        return False


def request(
    method: str = "GET",
    path: str = "/",
    *lines: str,
    host: str | None = "gateway.test",
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """The bytes of a request.

    Args:
        method: as it shall stand on the wire.
        path: the same.
        *lines: header lines without CRLF, written as they are.
        host: None leaves the Host header out.
        body: adds Content-Length.
        version: of HTTP.
    """
    head = [f"{method} {path} HTTP/{version}"]
    if host is not None:
        head.append(f"Host: {host}")
    head += lines
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")


def exchange(port: int, data: bytes, method: str = "GET") -> Reply:
    """Send bytes on a connection of their own and read one reply."""
    with Client(port) as client:
        return client.send(data).read_reply(method)


def get(port: int, path: str = "/", *lines: str, host: str = "gateway.test") -> Reply:
    """GET on a connection of its own."""
    return exchange(port, request("GET", path, *lines, host=host))
