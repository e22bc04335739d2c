# SPDX-License-Identifier: Apache-2.0
"""Does a probe end, in time and with its memory, whatever a server does to it?"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import pytest

from pylae.doctor import languages
from pylae.doctor.answers import MOST_HEAD_BYTES, Answer, read_head
from pylae.doctor.findings import Finding
from pylae.doctor.handshakes import asked_for_certificate, shown
from pylae.doctor.links import MOST_BYTES, Link, LinkEnded, Place
from tests.doctor.conftest import MakeOrigin
from tests.doctor.probing import find
from tests.support.origin import Behaviour, Connection, Gone


def endless(start: bytes, piece: bytes) -> Behaviour:
    """Begins somehow and never ends."""

    def serve(connection: Connection) -> None:
        connection.receive()
        connection.send(start)
        while not connection.origin.stopping.is_set():
            connection.send(piece)

    return serve


def trickle(piece: bytes) -> Behaviour:
    """A byte now and then, for ever."""

    def serve(connection: Connection) -> None:
        with contextlib.suppress(Gone):
            while not connection.origin.stopping.is_set():
                connection.send(piece)
                connection.pause(0.02)

    return serve


ATTACKS: dict[str, Behaviour] = {
    "a head without an end": endless(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"a" * 9000 + b"\r\n"),
    "a line without an end": endless(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 16384),
    "interim answers without an end": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "garbage without an end": endless(b"", os.urandom(16384)),
    "TLS alerts without an end": endless(b"", b"\x15\x03\x03\x00\x02\x01\x00" * 1000),
    "handshake records without an end": endless(b"", b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + b"a" * 16380),
    "a byte now and then": trickle(b"H"),
    "a head a byte at a time": trickle(b"HTTP/1.1 200 OK\r\nX: y\r\n"),
    "empty lines": endless(b"", b"\r\n" * 8000),
    "a body without an end": endless(
        b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"a" * 16384
    ),
    "a length of thousands of digits": endless(b"HTTP/1.1 502 x\r\nContent-Length: " + b"9" * 9000 + b"\r\n\r\n", b"a" * 16384),
    "control characters for the terminal": endless(
        b"HTTP/1.1 502 \x1b]0;owned\x07\x1b[2J\r\nServer: \x1b[31m\r\n\r\n", b"\x1b[2J" * 99
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_a_probe_survives(make_origin: MakeOrigin, attack: str, protocol: str) -> None:
    findings: list[Finding] = find(make_origin(ATTACKS[attack]).port, protocol, patience_s=0.3)
    for finding in findings:
        told = str(finding.document())
        assert len(told) < 16 * 1024
        assert "\x1b" not in told


def test_a_link_takes_no_more_than_its_bound(make_origin: MakeOrigin) -> None:
    origin = make_origin(endless(b"", b"a" * 65536))

    async def read() -> tuple[str, int]:
        with await Link.connect(Place("127.0.0.1", origin.port), 20) as link:
            await link.send(b"x")
            try:
                while await link.receive():
                    pass
            except LinkEnded as ended:
                return ended.how, link.received_bytes
            return "fin", link.received_bytes

    how, received_bytes = asyncio.run(read())
    assert how == "too_much"
    assert MOST_BYTES < received_bytes <= MOST_BYTES + 65536


def test_heads_and_records_of_chance_are_read_or_refused() -> None:
    chance = random.Random(4)
    alphabet = b"HTTP/1. 200OK\r\n:\0\xff\x16\x03\x0dabc-Length"
    for _ in range(20_000):
        data = bytes(chance.choice(alphabet) for _ in range(chance.randrange(60)))
        for head in (data, b"HTTP/1.1 200 OK\r\n" + data):
            found = read_head(head, len(head))
            assert found is None or isinstance(found, Answer)
        asked_for_certificate(data)
        languages.looks_like_http2(data)
        assert shown(data) is None
    assert MOST_HEAD_BYTES < MOST_BYTES
