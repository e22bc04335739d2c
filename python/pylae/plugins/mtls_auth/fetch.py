# SPDX-License-Identifier: Apache-2.0
"""What do an OCSP responder and the server of a revocation list answer? HTTP for once, through a proxy if there is one.

The addresses stand in certificates that a trusted authority signed; still nothing is followed elsewhere, and an answer is
bounded in time and size.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pylae.sdk.http import Endpoint

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 16 * 1_048_576
MAX_HEAD_BYTES: Final = 16_384
READ_SIZE_BYTES: Final = 65_536


class Unanswered(Exception):
    """Nobody could say; the message says why."""


@dataclass(frozen=True, slots=True)
class Way:
    """How servers are reached.

    Attributes:
        timeout_ms: for everything together.
        proxies: (host, port) by scheme.
        tls: what servers under https are verified with.
    """

    timeout_ms: float
    proxies: dict[str, tuple[str, int]]
    tls: ssl.SSLContext | None


async def fetch(url: str, way: Way, body: bytes | None = None, content_type: str | None = None) -> bytes:
    """The body of a 200; a POST where there is something to send.

    Raises:
        Unanswered: there was none.
    """
    import h11

    try:
        endpoint = Endpoint.parse(url)
        async with asyncio.timeout(way.timeout_ms / 1000):
            reader, writer, target = await _connect(endpoint, way)
            try:
                return await _exchange(reader, writer, endpoint, target, body, content_type)
            finally:
                writer.close()
    except TimeoutError as error:
        raise Unanswered(f"no answer within {way.timeout_ms:g} ms") from error
    except (OSError, ValueError, h11.ProtocolError) as error:
        raise Unanswered(str(error) or type(error).__name__) from error


async def _connect(endpoint: Endpoint, way: Way) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """A connection, and what to ask for on it."""
    target = endpoint.path + (f"?{endpoint.query}" if endpoint.query else "")
    proxy = way.proxies.get(endpoint.scheme)
    if proxy is None:
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=way.tls if endpoint.scheme == "https" else None
        )
        return reader, writer, target
    reader, writer = await asyncio.open_connection(*proxy)
    if endpoint.scheme == "http":
        return reader, writer, f"http://{endpoint.authority}{target}"
    try:
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        authority = f"{host}:{endpoint.port}"
        writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("latin-1"))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > MAX_HEAD_BYTES or head[:5] != b"HTTP/" or head.split(b" ", 2)[1:2] != [b"200"]:
            raise Unanswered("the proxy does not let us through")
        assert way.tls is not None
        await writer.start_tls(way.tls, server_hostname=endpoint.host)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise Unanswered("the proxy closed the connection") from error
    except BaseException:
        writer.close()
        raise
    return reader, writer, target


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    endpoint: Endpoint,
    target: str,
    body: bytes | None,
    content_type: str | None,
) -> bytes:
    import h11

    state = h11.Connection(h11.CLIENT)
    fields = [("Host", endpoint.authority), ("User-Agent", "pylae"), ("Accept", "*/*"), ("Connection", "close")]
    if body is not None:
        fields += [("Content-Type", content_type or "application/octet-stream"), ("Content-Length", str(len(body)))]
    request = h11.Request(method="GET" if body is None else "POST", target=target, headers=fields)
    writer.write((state.send(request) or b"") + (b"" if body is None else state.send(h11.Data(data=body)) or b""))
    state.send(h11.EndOfMessage())
    await writer.drain()

    async def next_event() -> Any:
        while (event := state.next_event()) is h11.NEED_DATA:
            state.receive_data(await reader.read(READ_SIZE_BYTES))
        return event

    event = await next_event()
    while isinstance(event, h11.InformationalResponse):
        event = await next_event()
    if not isinstance(event, h11.Response):
        raise Unanswered("the connection was closed without an answer")
    if event.status_code != 200:
        raise Unanswered(f"status {event.status_code}")
    answer = bytearray()
    while isinstance(piece := await next_event(), h11.Data):
        answer += piece.data
        if len(answer) > MAX_ANSWER_BYTES:
            raise Unanswered(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
    if not isinstance(piece, h11.EndOfMessage):
        raise Unanswered("the connection was closed in the middle of the answer")
    return bytes(answer)


async def tls_context(trusted: tuple[str, ...], *, verify: bool) -> ssl.SSLContext:
    """What servers are verified with; made in a thread, since reading the system's authorities takes a while."""
    return await asyncio.to_thread(_tls_context, trusted, verify)


def _tls_context(trusted: tuple[str, ...], verify: bool) -> ssl.SSLContext:  # noqa: FBT001 - a thread's argument
    import ssl

    context = ssl.create_default_context()
    for path in trusted:
        context.load_verify_locations(cafile=path)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
