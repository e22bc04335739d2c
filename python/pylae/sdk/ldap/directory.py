# SPDX-License-Identifier: Apache-2.0
"""Which connections to a directory are open, and who may use one now?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pylae.sdk.auth.systems import SystemUnavailable
from pylae.sdk.ldap.connection import Connection
from pylae.sdk.ldap.failures import ConnectionLost, LdapFailed

MAX_CONNECTIONS: Final = 32
"""To one directory, from one worker. Who finds all of them busy waits, for at most `timeout_ms`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a directory is, and how it is spoken to.

    Args:
        timeout_ms: how long connecting and each operation may take.
        keepalive_ms: how long an idle connection is kept; 0 keeps none.
        verify: whether its certificate must be trusted, and name `host`.
    """

    host: str
    port: int
    ldaps: bool
    start_tls: bool
    verify: bool
    timeout_ms: float
    keepalive_ms: float

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.ldaps else 'ldap'}://{host}:{self.port}"


class Directory:
    """A directory, with a pool of connections to it.

    Args:
        authorities: PEM files of whom may have signed its certificate.
    """

    def __init__(self, server: Server, authorities: Sequence[str]) -> None:
        self.server = server
        self.system = f"LDAP server {server}"
        self._authorities = tuple(authorities)
        self._tls: ssl.SSLContext | None = None
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        # The last one used is used next; each with the timer that ends it.
        self._idle: dict[Connection, asyncio.TimerHandle] = {}
        self._busy_count = 0

    def __repr__(self) -> str:
        return f"<directory {self.server} idle={len(self._idle)} busy={self._busy_count}>"

    @property
    def is_unused(self) -> bool:
        """Whether it has no connection, so that nothing is lost with it."""
        return not self._idle and not self._busy_count

    async def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """What comes of the question, which has a connection of its own while it lasts.

        It is put once more, on a new connection, when it was put on a kept one that turned out to be closed.

        Raises:
            SystemUnavailable: the directory could not be asked, or gave no answer to use.
        """
        try:
            async with asyncio.timeout(self.server.timeout_ms / 1000):
                await self._places.acquire()
        except TimeoutError as error:
            reason = f"all {MAX_CONNECTIONS} connections were busy for {self.server.timeout_ms:.0f} ms"
            raise SystemUnavailable(self.system, reason) from error
        self._busy_count += 1
        try:
            try:
                kept = self._take_idle()
                if kept is not None:
                    try:
                        return await self._put(question, kept)
                    except ConnectionLost:
                        # Those kept with it are likely gone as well: the server may have been restarted.
                        self.close()
                return await self._put(question, await self._open())
            except LdapFailed as failure:
                raise SystemUnavailable(self.system, str(failure)) from failure
        finally:
            self._busy_count -= 1
            self._places.release()

    def close(self) -> None:
        """Closes the idle connections."""
        for connection, timer in self._idle.items():
            timer.cancel()
            connection.close()
        self._idle.clear()

    async def _put(self, question: Callable[[Connection], Awaitable[T]], connection: Connection) -> T:
        try:
            answer = await question(connection)
        except BaseException:
            # Whatever was asked last may be answered yet; nobody else shall read that for an answer to another question.
            connection.close()
            raise
        self._keep(connection)
        return answer

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_usable:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        if self.server.keepalive_ms <= 0 or not connection.is_usable:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(self.server.keepalive_ms / 1000, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        connection.close()

    async def _open(self) -> Connection:
        server = self.server
        if self._tls is None and (server.ldaps or server.start_tls):
            # Reading a bundle of authorities takes tens of milliseconds.
            self._tls = await asyncio.to_thread(_tls_of, server, self._authorities)
        return await Connection.open(
            server.host, server.port, tls=self._tls, start_tls=server.start_tls, timeout_ms=server.timeout_ms
        )


def _tls_of(server: Server, authorities: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    for path in authorities:
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            raise LdapFailed(f"the authorities in {path} cannot be read") from error
    return context
