# SPDX-License-Identifier: Apache-2.0
"""A slow name server: knows A records of the TTL that a name begins with, and counts who asked for what."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import sys
from collections import Counter
from typing import Any

from bench.child import READY, Child
from bench.targets import HOST

TYPE_A, CLASS_IN = 1, 1
AUTHORITATIVE, NAME_ERROR = 0x8580, 3


class NameServer(Child):
    """Arguments: port, milliseconds until it answers. Knows `ttl<seconds>-<anything>`, at our address."""

    module = "name_server"

    def questions(self) -> dict[str, int]:
        """End it; how often it was asked for the A records of each name."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        asked: dict[str, int] = self.finish(10)
        return asked


class _Server(asyncio.DatagramProtocol):
    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._transport: asyncio.DatagramTransport | None = None
        self.asked: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._answer, self.answer(data), addr)

    def _answer(self, data: bytes, address: tuple[str | Any, int]) -> None:
        if self._transport:
            self._transport.sendto(data, address)

    def answer(self, query: bytes) -> bytes:
        """A name that does not begin as ours do is not known; of one that does there are A records alone."""
        labels, position = [], 12
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode("latin-1").lower())
            position += 1 + length
        question = query[12 : position + 5]
        (kind,) = struct.unpack("!H", query[position + 1 : position + 3])
        name, records, code = ".".join(labels), b"", 0
        ttl = labels[0].partition("-")[0].removeprefix("ttl") if labels else ""
        if not ttl.isdigit():
            code = NAME_ERROR
        elif kind == TYPE_A:
            self.asked[name] += 1
            records = b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, CLASS_IN, int(ttl), 4) + socket.inet_aton(HOST)
        return query[:2] + struct.pack("!HHHHH", AUTHORITATIVE | code, 1, bool(records), 0, 0) + question + records


async def serve(port: int, delay_ms: float) -> None:
    """Until told to end; then say what was asked."""
    loop, ends = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ends.set)
    transport, server = await loop.create_datagram_endpoint(lambda: _Server(delay_ms / 1e3), (HOST, port))
    print(READY, flush=True)
    await ends.wait()
    transport.close()
    print(json.dumps(server.asked), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
