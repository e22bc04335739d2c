# SPDX-License-Identifier: Apache-2.0
"""An origin that can be killed: says its name to every request, after a while, so that some are always under way."""

from __future__ import annotations

import asyncio
import sys

from bench.child import READY, Child
from bench.targets import HOST


class Origin(Child):
    """Arguments: port, name, milliseconds until it answers."""

    module = "origin"


class _Connection(asyncio.Protocol):
    """Requests without bodies, one after the other."""

    def __init__(self, reply: bytes, delay_s: float) -> None:
        self._reply, self._delay_s = reply, delay_s
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for _ in requests:
            asyncio.get_running_loop().call_later(self._delay_s, self._answer)

    def _answer(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(self._reply)


async def serve(port: int, name: str, delay_ms: float) -> None:
    """Until killed."""
    body = name.encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(reply, delay_ms / 1e3), HOST, port, backlog=1024)
    print(READY, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
