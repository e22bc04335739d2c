# SPDX-License-Identifier: Apache-2.0
"""How does a probe talk to a server it cannot trust? Over one connection, bounded in bytes and in time.

TLS goes through memory, so that the first bytes a server really sent are known, whatever the library thinks of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

MOST_BYTES: Final = 1024 * 1024
"""Bytes that one connection may send us; a server that sends more is cut off."""
MOST_FIRST_BYTES: Final = 64
MOST_HANDSHAKE_BYTES: Final = 256 * 1024
_CHUNK: Final = 16384

End = Literal["fin", "rst", "timeout", "too_much", "failed", "refused", "unreachable"]


class LinkEnded(Exception):
    """The connection is of no more use.

    Attributes:
        how: who ended it and how.
        detail: the system's or the library's words.
    """

    def __init__(self, how: End, detail: str = "") -> None:
        super().__init__(f"{how}: {detail}" if detail else how)
        self.how, self.detail = how, detail


class HandshakeFailed(Exception):
    """TLS was not agreed upon.

    Attributes:
        reason: OpenSSL's name of it, such as `WRONG_VERSION_NUMBER`; `` for none.
        detail: OpenSSL's words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is said to listen."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Link:
    """One connection to a server.

    Attributes:
        place: to where.
        connect_ms: how long it took to connect.
        first_bytes: the first that came, before any TLS.
        received_bytes: how many came in all.
        handshake: what came in the handshake, undecrypted.
    """

    def __init__(self, place: Place, deadline_s: float) -> None:
        self.place = place
        self.connect_ms = 0.0
        self.first_bytes = b""
        self.received_bytes = 0
        self.handshake = b""
        self._deadline_s = deadline_s
        self._socket = socket.socket(socket.AF_INET6 if ":" in place.ip else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        self._tls: ssl.SSLObject | None = None
        self._from_peer, self._to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()

    @classmethod
    async def connect(cls, place: Place, patience_s: float) -> Link:
        """A connection; `patience_s` is for all that is done with it.

        Raises:
            LinkEnded: there is none.
        """
        started_s = time.monotonic()
        link = cls(place, started_s + patience_s)
        try:
            with link._telling():
                async with asyncio.timeout_at(link._until()):
                    await asyncio.get_running_loop().sock_connect(link._socket, (place.ip, place.port))
            with contextlib.suppress(OSError):  # it may be reset already
                link._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            link.close()
            raise
        link.connect_ms = (time.monotonic() - started_s) * 1000
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._socket.close()

    def extend(self, patience_s: float) -> None:
        """From now on it may take this long."""
        self._deadline_s = time.monotonic() + patience_s

    @property
    def local(self) -> Place:
        """Our end, as the server sees it where nothing translates addresses."""
        ip, port = self._socket.getsockname()[:2]
        return Place(str(ip), int(port))

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What was agreed upon; None before."""
        return self._tls

    # === bytes ===

    async def send(self, data: bytes) -> None:
        """Sends all of it.

        Raises:
            LinkEnded: it could not be sent.
        """
        if self._tls is None:
            await self._send_raw(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise LinkEnded("failed", _words(error)) from error
        await self._flush()

    async def receive(self) -> bytes:
        """Some bytes, decrypted; none at the end.

        Raises:
            LinkEnded: reset, silent for too long, or too talkative.
            HandshakeFailed: the server refuses the handshake after the fact, as TLS 1.3 allows.
        """
        if self._tls is None:
            return await self._receive_raw()
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise HandshakeFailed(error.reason or "", _words(error)) from error

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Shakes hands.

        Raises:
            HandshakeFailed: TLS was not agreed upon.
            LinkEnded: the server ended the connection.
        """
        tls = context.wrap_bio(self._from_peer, self._to_peer, server_side=False, server_hostname=server_name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
                if len(self.handshake) > MOST_HANDSHAKE_BYTES:
                    raise LinkEnded("too_much", "the handshake has no end") from None
            except ssl.SSLEOFError as error:
                raise LinkEnded("fin", "closed in the handshake") from error
            except ssl.SSLError as error:
                with contextlib.suppress(LinkEnded):
                    await self._flush()  # our alert
                raise HandshakeFailed(_reason(error), _words(error)) from error
            else:
                break
        self._tls = tls
        await self._flush()

    # === below TLS ===

    async def _flush(self) -> None:
        if data := self._to_peer.read():
            await self._send_raw(data)

    async def _feed(self) -> None:
        data = await self._receive_raw()
        if not data:
            self._from_peer.write_eof()
            return
        if self._tls is None:
            self.handshake += data
        self._from_peer.write(data)

    async def _send_raw(self, data: bytes) -> None:
        with self._telling():
            async with asyncio.timeout_at(self._until()):
                await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def _receive_raw(self) -> bytes:
        with self._telling():
            async with asyncio.timeout_at(self._until()):
                data = await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK)
        self.received_bytes += len(data)
        if len(self.first_bytes) < MOST_FIRST_BYTES:
            self.first_bytes = (self.first_bytes + data)[:MOST_FIRST_BYTES]
        if self.received_bytes > MOST_BYTES:
            raise LinkEnded("too_much", f"more than {MOST_BYTES} bytes")
        return data

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self._deadline_s - time.monotonic()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise LinkEnded("timeout") from error
        except ConnectionRefusedError as error:
            raise LinkEnded("refused", _errno(error)) from error
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LinkEnded("rst", _errno(error)) from error
        except OSError as error:
            raise LinkEnded("unreachable", _errno(error)) from error


def _errno(error: OSError) -> str:
    return f"{error.errno}: {error.strerror}" if error.errno else str(error)


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "CERTIFICATE_VERIFY_FAILED"
    return error.reason or ""


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_code}:{error.verify_message}"
    return error.args[-1].partition(" (_ssl.c")[0] if error.args else type(error).__name__
