# SPDX-License-Identifier: Apache-2.0
"""How do bytes of a connection become whole messages, without more of them in memory than one message needs?"""

from __future__ import annotations

import asyncio
from typing import cast

from pylae.sdk.ldap.failures import ConnectionLost, LdapFailed
from pylae.sdk.ldap.messages import MAX_MESSAGE_BYTES, frame_length


class Wire(asyncio.Protocol):
    """One connection's bytes; one reader at a time."""

    def __init__(self) -> None:
        self.is_lost = False
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._arrival: asyncio.Future[None] | None = None
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<wire lost={self.is_lost} buffered={len(self._buffer)}>"

    @property
    def has_unread(self) -> bool:
        """Whether something came that nobody has asked for yet."""
        return bool(self._buffer)

    @property
    def transport(self) -> asyncio.Transport:
        """Where bytes go."""
        assert self._transport is not None, "a wire is used only once it is connected"
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once by asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def change_transport(self, transport: asyncio.Transport) -> None:
        """Goes on under TLS."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        if len(self._buffer) > MAX_MESSAGE_BYTES and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's; whoever reads is told below
        """Called once by asyncio."""
        self.is_lost = True
        self._wake()

    def send(self, message: bytes) -> None:
        """Hands a message to the kernel, or to a buffer of it."""
        if self.is_lost:
            raise ConnectionLost("closed the connection")
        self.transport.write(message)

    async def receive(self) -> bytes:
        """The next whole message.

        Raises:
            ConnectionLost: there will be none.
            LdapFailed: what comes is no LDAP message, or too large.
        """
        while True:
            length = frame_length(self._buffer)
            if length is not None and length <= len(self._buffer):
                message = bytes(self._buffer[:length])
                del self._buffer[:length]
                return message
            if self.is_lost:
                raise ConnectionLost("closed the connection")
            self._resume()
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None

    def close(self) -> None:
        """Closes at once; what is unsent is not sent."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()

    def require_silence(self) -> None:
        """Nothing may have come in clear text that would be read as if it had come under TLS (CVE-2011-0411's kind).

        Raises:
            LdapFailed: something came.
        """
        if self._buffer:
            raise LdapFailed("sent more than the answer to StartTLS before TLS began")

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
