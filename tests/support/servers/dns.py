# SPDX-License-Identifier: Apache-2.0
"""What does the name server answer, and what was it asked?"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# dnslib has no types.
from dnslib import (  # type: ignore[import-untyped]
    AAAA,
    CLASS,
    CNAME,
    QTYPE,
    RR,
    SRV,
    A,
    DNSRecord,
)

from tests.support.ports import free_port

NO_ERROR, SERVER_FAILURE, NAME_ERROR, REFUSED = 0, 2, 3, 5
TTL_S: Final = 30
DATAGRAM_BYTES: Final = 512

Change = Callable[[DNSRecord], DNSRecord]


@dataclass(frozen=True)
class Question:
    """One question as it came."""

    name: str
    type: str
    transport: str


class NameServer:
    """A name server over UDP and TCP that knows a few names, and says NXDOMAIN to all others.

    Answers that do not fit into 512 bytes are truncated over UDP. Names are in lower case, without a dot at the end.

    Attributes:
        addresses: name → IPv4 addresses with a TTL of 30 s; none: the name exists, and has no record.
        records: name → records, whose owners may be other names; what `set_a` and the like write.
        additional: name → records that are sent along.
        codes: name, or `name/TYPE` → the response code it is answered with.
        silent: names whose questions are not answered.
        changes: name → what is done to its answers before they are sent.
        asked: every question, in order.
    """

    def __init__(self, port: int = 0) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.records: dict[str, list[RR]] = {}
        self.additional: dict[str, list[RR]] = {}
        self.codes: dict[str, int] = {}
        self.silent: set[str] = set()
        self.changes: dict[str, Change] = {}
        self.asked: list[Question] = []
        self._held: dict[str, threading.Event] = {}
        self.port: int = port or free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._tcp = socket.create_server(("127.0.0.1", self.port))
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, name=f"dns:{self.port}", daemon=True).start()

    @property
    def address(self) -> str:
        """As `dns_resolver` has it."""
        return f"127.0.0.1:{self.port}"

    @property
    def failing(self) -> _Failing:
        """Names that are answered with SERVFAIL."""
        return _Failing(self.codes)

    @property
    def questions(self) -> list[str]:
        """Every name asked for, in order."""
        return [question.name for question in self.asked]

    def count(self, name: str, kind: str | None = None, transport: str | None = None) -> int:
        """How often a name was asked for: of a type, over `udp` or `tcp`."""
        return sum(
            question.name == name and kind in (None, question.type) and transport in (None, question.transport)
            for question in list(self.asked)
        )

    def types(self, name: str) -> list[str]:
        """Which types of a name were asked for, in order."""
        return [question.type for question in list(self.asked) if question.name == name]

    # === what it knows ===

    def set_a(self, name: str, *addresses: str, ttl_s: int = TTL_S) -> None:
        """Give a name these IPv4 addresses, and no other records."""
        self.records[name] = [record(name, A(address), ttl_s) for address in addresses]

    def set_aaaa(self, name: str, *addresses: str, ttl_s: int = TTL_S) -> None:
        """Give a name these IPv6 addresses, and no other records."""
        self.records[name] = [record(name, AAAA(address), ttl_s) for address in addresses]

    def set_cname(self, name: str, target: str, ttl_s: int = TTL_S) -> None:
        """Make a name another's; it does not say what that one has."""
        self.records[name] = [record(name, CNAME(target), ttl_s)]

    def set_srv(self, name: str, *services: tuple[int, int, int, str], ttl_s: int = TTL_S) -> None:
        """Give a name services: priority, weight, port, target."""
        self.records[name] = [record(name, SRV(*service), ttl_s) for service in services]

    def hold(self, name: str) -> None:
        """Answer no question for a name until it is released."""
        self._held[name] = threading.Event()

    def release(self, name: str) -> None:
        """Answer what was held, and what comes."""
        self._held.pop(name).set()

    def stop(self) -> None:
        """Answer no more."""
        for held in self._held.values():
            held.set()
        for server in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()

    # === how it answers ===

    def _serve_udp(self) -> None:
        while True:
            try:
                query, peer = self._udp.recvfrom(4096)
            except OSError:
                return
            if query:
                self._begin(query, "udp", functools.partial(self._send_to, peer))

    def _send_to(self, peer: Any, reply: bytes) -> None:
        self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                link, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_link, args=(link,), daemon=True).start()

    def _serve_link(self, link: socket.socket) -> None:
        with link, link.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                query = stream.read(struct.unpack("!H", head)[0])
                self._answer(query, "tcp", lambda reply: link.sendall(struct.pack("!H", len(reply)) + reply))

    def _begin(self, query: bytes, transport: str, send: Callable[[bytes], Any]) -> None:
        if self._held:
            threading.Thread(target=self._answer, args=(query, transport, send), daemon=True).start()
        else:
            self._answer(query, transport, send)

    def _answer(self, query: bytes, transport: str, send: Callable[[bytes], Any]) -> None:
        request = DNSRecord.parse(query)
        name = str(request.q.qname).rstrip(".").lower()
        kind = str(QTYPE[request.q.qtype])
        self.asked.append(Question(name, kind, transport))
        held = self._held.get(name)
        if held is not None:
            held.wait()
        if name in self.silent:
            return
        reply = self._reply(request, name, kind)
        packed = reply.pack()
        if transport == "udp" and len(packed) > DATAGRAM_BYTES:
            packed = reply.truncate().pack()
        with contextlib.suppress(OSError):
            send(packed)

    def _reply(self, request: DNSRecord, name: str, kind: str) -> DNSRecord:
        reply = request.reply()
        is_known = name in self.records or name in self.addresses
        known = [*self.records.get(name, []), *(record(name, A(address)) for address in self.addresses.get(name, []))]
        reply.header.rcode = self.codes.get(f"{name}/{kind}", self.codes.get(name, NO_ERROR if is_known else NAME_ERROR))
        if reply.header.rcode == NO_ERROR:
            reply.add_answer(*(one for one in known if QTYPE[one.rtype] in (kind, "CNAME")))
            reply.add_ar(*self.additional.get(name, []))
        change = self.changes.get(name)
        return change(reply) if change is not None else reply


class _Failing:
    """The names that are answered with SERVFAIL, as a set."""

    def __init__(self, codes: dict[str, int]) -> None:
        self._codes = codes

    def add(self, name: str) -> None:
        """From now on this one."""
        self._codes[name] = SERVER_FAILURE

    def discard(self, name: str) -> None:
        """From now on this one no more."""
        self._codes.pop(name, None)


def record(name: str, data: A | AAAA | CNAME | SRV, ttl_s: int = TTL_S) -> RR:
    """A record of a name."""
    return RR(name, getattr(QTYPE, type(data).__name__), CLASS.IN, ttl_s, data)
