# SPDX-License-Identifier: Apache-2.0
"""How long may an upstream be silent before its answer?"""

from __future__ import annotations

from collections.abc import Callable

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin

READ_TIMEOUT_MS = 400
MakeOrigin = Callable[[Behaviour], Origin]


def in_drops(connection: Connection) -> None:
    """A head that takes longer than the timeout, in pieces that do not."""
    connection.read_head()
    for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-", b"Length:", b" 2\r\n", b"X-A: ", b"b\r\n", b"\r\n", b"ok"):
        connection.send(piece)
        connection.pause(READ_TIMEOUT_MS / 4000)


def test_read_timeout_bounds_the_silence_between_two_reads_and_not_the_head(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    """As in nginx: `proxy_read_timeout` is set between two successive reads."""
    path = blueprints.path(make_origin(in_drops), read_timeout=READ_TIMEOUT_MS, retries=0)
    reply = gateway.get(path)
    assert (reply.status, reply.body) == (200, b"ok")
