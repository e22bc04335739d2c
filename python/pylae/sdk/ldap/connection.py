# SPDX-License-Identifier: Apache-2.0
"""How is one LDAP connection used? One operation at a time, each within a time. RFC 4511."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pylae.sdk.ldap.entries import Entry, Equals, Present, Result, Scope
from pylae.sdk.ldap.failures import ConnectionLost, LdapFailed

if TYPE_CHECKING:
    from pylae.sdk.ldap.messages import Message
    from pylae.sdk.ldap.wire import Wire

LARGE_MESSAGE_BYTES: Final = 4_096
"""Reading one costs 0.3 ms up to here and 11 ms at 40 KiB (pyasn1, CPU, 2026-11-25): larger ones are read in a thread."""
MAX_ENTRIES: Final = 1_000
"""Entries of one search that are listened to."""
REFUSALS: Final = frozenset({16, 19, 32, 34, 48, 49, 50, 53})
"""Results of a bind that mean: not with this name and password. Any other is no answer to the question."""
SUCCESS: Final = 0
NO_SUCH_OBJECT: Final = 32
SIZE_LIMIT_EXCEEDED: Final = 4


class Connection:
    """An open connection; made by `Connection.open`."""

    def __init__(self, wire: Wire, timeout_ms: float) -> None:
        self._wire = wire
        self._timeout_ms = timeout_ms
        self._last_id = 0

    def __repr__(self) -> str:
        return f"<ldap connection {self._wire!r}>"

    @property
    def is_usable(self) -> bool:
        """Whether the next operation may be tried on it: it is open, and nothing came that nobody asked for."""
        return not self._wire.is_lost and not self._wire.has_unread

    @classmethod
    async def open(cls, host: str, port: int, *, tls: ssl.SSLContext | None, start_tls: bool, timeout_ms: float) -> Connection:
        """Connects, under TLS if `tls` is given: from the first byte, or after StartTLS.

        Raises:
            LdapFailed: it could not, or the server refused StartTLS or has no certificate to trust.
        """
        # pyasn1 takes 4 MiB, which only a worker that asks a directory should have.
        from pylae.sdk.ldap.wire import Wire

        loop = asyncio.get_running_loop()
        from_the_start = tls if not start_tls else None
        wire = Wire()
        try:
            async with _within(timeout_ms, "no connection"):
                await loop.create_connection(
                    lambda: wire, host, port, ssl=from_the_start, server_hostname=host if from_the_start else None
                )
            connection = cls(wire, timeout_ms)
            if tls is not None and start_tls:
                await connection._start_tls(host, tls)
        except BaseException:
            wire.close()
            raise
        return connection

    async def bind(self, name: str, password: bytes) -> bool:
        """Whether the server takes the password for that of the entry; from then on it acts as that entry.

        Raises:
            LdapFailed: no answer, or one that says neither yes nor no; also for an empty name or password.
        """
        from pylae.sdk.ldap.messages import bind_request

        result = await self._exchange(bind_request(self._next_id(), name, password), "bindResponse")
        if result.code != SUCCESS and result.code not in REFUSALS:
            raise LdapFailed(f"answered a bind with {result.name}")
        return result.code == SUCCESS

    async def search(
        self, base: str, scope: Scope, wanted: Equals | Present, attributes: Sequence[str], max_entries: int = MAX_ENTRIES
    ) -> list[Entry]:
        """The entries that were found, at most `max_entries`; referrals are not followed.

        Raises:
            LdapFailed: no answer, or the server cannot or will not search there.
        """
        from pylae.sdk.ldap.messages import search_request

        message_id = self._next_id()
        time_s = max(1, int(self._timeout_ms / 1000))
        entries: list[Entry] = []
        async with _within(self._timeout_ms, "no answer"):
            self._wire.send(search_request(message_id, base, scope, wanted, list(attributes), max_entries, time_s))
            while True:
                message = await self._receive(message_id)
                if isinstance(message.content, Entry):
                    entries.append(message.content)
                    if len(entries) > max_entries:
                        # The server knows the limit; one that goes on has more to tell than we want to hear.
                        raise LdapFailed(f"answered a search with more than {max_entries} entries")
                elif message.operation == "searchResDone" and isinstance(message.content, Result):
                    break
                elif message.operation != "searchResRef":
                    raise LdapFailed("answered a search with something else")
        if message.content.code not in (SUCCESS, NO_SUCH_OBJECT, SIZE_LIMIT_EXCEEDED):
            raise LdapFailed(f"answered a search with {message.content.name}")
        return entries

    def close(self) -> None:
        """Closes it, whatever it does."""
        self._wire.close()

    async def _start_tls(self, host: str, tls: ssl.SSLContext) -> None:
        from pylae.sdk.ldap.messages import start_tls_request

        result = await self._exchange(start_tls_request(self._next_id()), "extendedResp")
        if result.code != SUCCESS:
            # Going on without would hand passwords to whoever made the server refuse.
            raise LdapFailed(f"answered StartTLS with {result.name}")
        self._wire.require_silence()
        async with _within(self._timeout_ms, "no TLS"):
            transport = await asyncio.get_running_loop().start_tls(self._wire.transport, self._wire, tls, server_hostname=host)
        if transport is None:
            raise ConnectionLost("closed the connection")
        self._wire.change_transport(transport)

    async def _exchange(self, request: bytes, answer: str) -> Result:
        async with _within(self._timeout_ms, "no answer"):
            self._wire.send(request)
            message = await self._receive(self._last_id)
        if message.operation != answer or not isinstance(message.content, Result):
            raise LdapFailed("answered with something else than what was asked")
        return message.content

    async def _receive(self, message_id: int) -> Message:
        from pylae.sdk.ldap.messages import UNSOLICITED, decode

        data = await self._wire.receive()
        message = await asyncio.to_thread(decode, data) if len(data) > LARGE_MESSAGE_BYTES else decode(data)
        if message.id == UNSOLICITED:
            raise ConnectionLost("took leave")
        if message.id != message_id:
            raise LdapFailed("answered what nobody had asked")
        return message

    def _next_id(self) -> int:
        # 1 to 2^31-1 (RFC 4511, section 4.1.1.1).
        self._last_id = self._last_id % 0x7FFFFFFF + 1
        return self._last_id


@asynccontextmanager
async def _within(timeout_ms: float, what: str) -> AsyncIterator[None]:
    """What takes longer, or fails in the network, becomes `LdapFailed`."""
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            yield
    except TimeoutError as error:
        raise LdapFailed(f"{what} within {timeout_ms:.0f} ms") from error
    except ssl.SSLCertVerificationError as error:
        raise LdapFailed(f"its certificate is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise LdapFailed(f"no TLS: {error.reason or 'the handshake failed'}") from error
    except ConnectionError as error:
        raise ConnectionLost(_said(error)) from error
    except OSError as error:
        raise LdapFailed(_said(error)) from error


def _said(error: OSError) -> str:
    return (error.strerror or "the connection failed").lower()
