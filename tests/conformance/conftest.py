# SPDX-License-Identifier: Apache-2.0
"""One gateway with an echoing origin for every judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin, echo_reply


@dataclass
class Judged:
    """What is judged: a gateway, its origin, and the paths that lead there."""

    gateway: Gateway
    origin: Origin
    path: str


def by_path(connection: Connection) -> None:
    """Answer in the framing that the path asks for."""
    while True:
        received = connection.read_head()
        connection.read_body(received)
        kind = received.target.strip("/")
        if kind == "chunked":
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n")
        elif kind == "close":
            connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            connection.close()
            return
        elif kind == "204":
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif kind == "304":
            connection.send(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
        else:
            connection.send(echo_reply(received))


@pytest.fixture(scope="module")
def judged() -> Iterator[Judged]:
    with Origin(by_path) as origin, Gateway() as gateway:
        yield Judged(gateway, origin, Blueprints(gateway).path(origin))
