# SPDX-License-Identifier: Apache-2.0
"""How does a plugin speak HTTP, be it a shipper in the control process or a hook in a worker?

A small HTTP/1.1 client over asyncio and h11: connections kept per origin, one deadline per request, bounded answers,
and no more requests at once than allowed: a server that hangs holds up those who need it and nobody else. It follows no
redirects. In a worker it runs on the data plane's own thread and never blocks it: names are resolved and authorities are
read on others.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import h11

MAX_ANSWER_BYTES: Final = 1_048_576
MAX_REQUESTS: Final = 64
"""Requests of one client that are under way at once; others wait, and their time runs."""
READ_SIZE_BYTES: Final = 65_536
MAX_IDLE_CONNECTIONS: Final = 4
"""Idle connections kept per origin."""


class HttpFailed(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True)
class HttpAnswer:
    """Status, fields with lower-case names, and the body, or its beginning."""

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
        trusted_certificates: PEM files of the authorities to trust (`host.trusted_certificates`); the platform's when empty.
        max_answer_bytes: How much of a body is read.
        is_cut: What becomes of a longer body: its beginning is the answer, or else (False) the request has failed.
    """

    def __init__(
        self,
        *,
        verify: bool = True,
        trusted_certificates: Sequence[str] = (),
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        is_cut: bool = True,
    ) -> None:
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._verify = verify
        self._trusted_certificates = tuple(trusted_certificates)
        self._max_answer_bytes = max_answer_bytes
        self._is_cut = is_cut
        self._places = asyncio.Semaphore(MAX_REQUESTS)

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
        is_repeatable: bool = True,
    ) -> HttpAnswer:
        """Sends one request and reads its whole answer.

        Args:
            method: Any method.
            endpoint: Where to, path and query included.
            headers: Sent beside Host and Content-Length.
            body: The whole body.
            timeout_ms: For everything together: connecting, sending, waiting, reading.
            keepalive_ms: How long the connection may idle afterwards and still be used; 0 closes it.
            is_repeatable: Whether the request may be sent a second time when an idle connection turns out to be closed; if
                not, it goes over a connection of its own.

        Raises:
            HttpFailed: no answer came in time.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000), self._places:
                while True:
                    connection = await self._connection(endpoint, keepalive_ms if is_repeatable else 0)
                    try:
                        return await self._exchange(connection, method, endpoint, headers, body, keepalive_ms)
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
        except h11.ProtocolError as error:
            # What it quotes may be an answer, or a header of ours that is secret.
            raise HttpFailed("no HTTP") from error
        except OSError as error:
            raise HttpFailed(_reason(error)) from error

    async def _connection(self, endpoint: Endpoint, keepalive_ms: float) -> _Connection:
        idle = self._idle.get((endpoint.scheme, endpoint.host, endpoint.port), []) if keepalive_ms else []
        while idle:
            connection = idle.pop()
            if (time.monotonic() - connection.idle_since_s) * 1000 < keepalive_ms and not connection.reader.at_eof():
                connection.is_reused = True
                return connection
            connection.close()
        tls = await self._tls_context() if endpoint.scheme == "https" else None
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls)
        return _Connection(reader, writer)

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Some hundred authorities take some milliseconds.
            self._tls = await asyncio.to_thread(_tls_context, self._trusted_certificates if self._verify else None)
        return self._tls

    async def _exchange(
        self,
        connection: _Connection,
        method: str,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: bytes,
        keepalive_ms: float,
    ) -> HttpAnswer:
        state = connection.state
        fields = [("Host", endpoint.authority), *headers.items()]
        if body or method not in ("GET", "HEAD"):
            fields.append(("Content-Length", str(len(body))))
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
                if not self._is_cut and len(answer_body) + len(piece.data) > self._max_answer_bytes:
                    raise HttpFailed(f"an answer of more than {self._max_answer_bytes} bytes")
                answer_body += piece.data[: self._max_answer_bytes - len(answer_body)]
        self._release(connection, endpoint, keepalive_ms)
        answer_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return HttpAnswer(event.status_code, answer_headers, bytes(answer_body))

    def _release(self, connection: _Connection, endpoint: Endpoint, keepalive_ms: float) -> None:
        idle = self._idle.setdefault((endpoint.scheme, endpoint.host, endpoint.port), [])
        if not keepalive_ms or connection.state.our_state is not h11.DONE or connection.state.their_state is not h11.DONE:
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


def _tls_context(trusted_certificates: Sequence[str] | None) -> ssl.SSLContext:
    """A client's context; trusts these files, the platform for an empty list, anybody for None."""
    if trusted_certificates is None or trusted_certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusted_certificates is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for path in trusted_certificates or ():
            context.load_verify_locations(path)
        return context
    return ssl.create_default_context()


def _reason(error: OSError) -> str:
    """What an operator calls it: `connection refused`, `certificate verify failed: self-signed certificate`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error) or type(error).__name__).lower()
