# SPDX-License-Identifier: Apache-2.0
"""What does the name server answer?"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

TYPE_A = 1
NO_ERROR, SERVER_FAILURE, NAME_ERROR = 0, 2, 3


class NameServer:
    """A UDP name server that knows a few names, fails for some, and says NXDOMAIN to all others.

    Attributes:
        addresses: lower-case name → IPv4 addresses.
        failing: names answered with SERVFAIL.
        questions: every name asked, in order.
    """

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.failing: set[str] = set()
        self.questions: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, name=f"dns:{self.port}", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, peer = self._socket.recvfrom(4096)
                if not query:
                    return
                self._socket.sendto(self._answer(query), peer)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes:
        labels, position = [], 12
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode("latin-1"))
            position += 1 + length
        question = query[12 : position + 5]
        (kind,) = struct.unpack("!H", query[position + 1 : position + 3])
        name = ".".join(labels).lower()
        self.questions.append(name)
        addresses = self.addresses.get(name, []) if kind == TYPE_A else []
        known = NO_ERROR if name in self.addresses else NAME_ERROR
        code = SERVER_FAILURE if name in self.failing else known
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(addresses), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, 1, 30, 4) + socket.inet_aton(address) for address in addresses
        )
        return head + question + records
