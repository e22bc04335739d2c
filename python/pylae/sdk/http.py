# SPDX-License-Identifier: Apache-2.0
"""How does a shipper in the control process speak HTTP?

A small HTTP/1.1 client over asyncio and h11: connections kept per origin, one deadline per request, bounded
answers. It is not for hooks in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import h11

MAX_ANSWER_BYTES: Final = 1_048_576
READ_SIZE_BYTES: Final = 65_536
MAX_IDLE_CONNECTIONS: Final = 4
"""Idle connections kept per origin."""


class HttpFailed(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True)
class HttpAnswer:
    """Status, fields with lower-case names, and the first `MAX_ANSWER_BYTES` of the body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Endpoint:
    """Where to send, taken from a URL."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Splits a URL.

        Raises:
            ValueError: not `http://…` or `https://…` with a host.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{parts.scheme}://{parts.hostname or ''}`: expected http or https and a host")
        user = unquote(parts.username) if parts.username is not None else None
        password = unquote(parts.password) if parts.password is not None else None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path or "/", parts.query, user, password)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default_port = 443 if self.scheme == "https" else 80
        return host if self.port == default_port else f"{host}:{self.port}"


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.state = h11.Connection(h11.CLIENT)
        self.idle_since_s = 0.0
        self.is_reused = False

    def close(self) -> None:
        self.writer.close()

    async def next_event(self) -> h11.Event:
        while True:
            event = self.state.next_event()
            if event is not h11.NEED_DATA:
                if isinstance(event, type):
                    raise HttpFailed("connection closed before the answer was complete")
                return event
            self.state.receive_data(await self.reader.read(READ_SIZE_BYTES))


class HttpClient:
    """Sends requests; one object per user, closed when done.

    Args:
        verify: Whether a server's certificate must be trusted and name the host.
    """

    def __init__(self, *, verify: bool = True) -> None:
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._verify = verify

    def __repr__(self) -> str:
        return f"<http client idle={sum(map(len, self._idle.values()))}>"

    async def request(
        self,
        method: str,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_ms: float,
        keepalive_ms: float = 60_000,
    ) -> HttpAnswer:
        """Sends one request and reads its whole answer.

        Args:
            method: Any method.
            endpoint: Where to, path and query included.
            headers: Sent beside Host and Content-Length.
            body: The whole body.
            timeout_ms: For everything together: connecting, sending, waiting, reading.
            keepalive_ms: How long the connection may idle afterwards and still be used.

        Raises:
            HttpFailed: no answer came in time.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    connection = await self._connection(endpoint, keepalive_ms)
                    try:
                        return await self._exchange(connection, method, endpoint, headers, body)
                    except (OSError, HttpFailed, h11.ProtocolError):
                        connection.close()
                        # The server may have closed an idle connection just then; a new one tells the truth.
                        if not connection.is_reused:
                            raise
                    except BaseException:
                        connection.close()
                        raise
        except TimeoutError as error:
            raise HttpFailed(f"timeout after {timeout_ms:g} ms") from error
        except (OSError, h11.ProtocolError) as error:
            raise HttpFailed(str(error) or type(error).__name__) from error

    async def _connection(self, endpoint: Endpoint, keepalive_ms: float) -> _Connection:
        idle = self._idle.get((endpoint.scheme, endpoint.host, endpoint.port), [])
        while idle:
            connection = idle.pop()
            if (time.monotonic() - connection.idle_since_s) * 1000 < keepalive_ms and not connection.reader.at_eof():
                connection.is_reused = True
                return connection
            connection.close()
        tls = self._tls_context() if endpoint.scheme == "https" else None
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls)
        return _Connection(reader, writer)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if not self._verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        return self._tls

    async def _exchange(
        self, connection: _Connection, method: str, endpoint: Endpoint, headers: Mapping[str, str], body: bytes
    ) -> HttpAnswer:
        state = connection.state
        fields = [("Host", endpoint.authority), *headers.items(), ("Content-Length", str(len(body)))]
        target = endpoint.path + (f"?{endpoint.query}" if endpoint.query else "")
        head = state.send(h11.Request(method=method, target=target, headers=fields)) or b""
        connection.writer.write(head + (state.send(h11.Data(data=body)) or b""))
        state.send(h11.EndOfMessage())
        await connection.writer.drain()
        event = await connection.next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await connection.next_event()
        if not isinstance(event, h11.Response):
            raise HttpFailed("expected the head of an answer")
        answer_body = bytearray()
        while not isinstance(piece := await connection.next_event(), h11.EndOfMessage):
            if isinstance(piece, h11.Data):
                answer_body += piece.data[: MAX_ANSWER_BYTES - len(answer_body)]
        self._release(connection, endpoint)
        answer_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return HttpAnswer(event.status_code, answer_headers, bytes(answer_body))

    def _release(self, connection: _Connection, endpoint: Endpoint) -> None:
        idle = self._idle.setdefault((endpoint.scheme, endpoint.host, endpoint.port), [])
        if connection.state.our_state is not h11.DONE or connection.state.their_state is not h11.DONE:
            connection.close()
            return
        connection.state.start_next_cycle()
        connection.idle_since_s = time.monotonic()
        idle.append(connection)
        if len(idle) > MAX_IDLE_CONNECTIONS:
            idle.pop(0).close()

    async def close(self) -> None:
        """Closes idle connections."""
        connections = [connection for idle in self._idle.values() for connection in idle]
        self._idle.clear()
        for connection in connections:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()
