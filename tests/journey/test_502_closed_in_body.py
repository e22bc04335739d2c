# SPDX-License-Identifier: Apache-2.0
"""What does the client see when the upstream stops in the middle of its answer?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin
from tests.support.raw import ClosedEarly, request

MakeOrigin = Callable[[Behaviour], Origin]

HEADS = {
    "length": b"Content-Length: 100\r\n\r\n0123456789",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
}


@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize(
    ("how", "phrase"),
    [
        ("reset", " failed (104: Connection reset by peer) while reading upstream"),
        ("silence", "upstream timed out (110: Connection timed out) while reading upstream"),
    ],
)
def test_the_client_can_tell_that_it_is_not_whole(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, framing: str, how: str, phrase: str
) -> None:
    def breaks_off(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\n" + HEADS[framing])
        connection.pause(0.1)
        if how == "reset":
            connection.reset()
        else:
            connection.wait_gone()

    origin = make_origin(breaks_off)
    path = blueprints.path(origin, read_timeout=300)
    with gateway.connect() as client, pytest.raises(ClosedEarly) as early:
        client.send(request("GET", path)).read_reply()
    assert early.value.reply
    assert early.value.reply.status == 200
    assert b"0123456789".startswith(early.value.reply.body), "nginx drops what lies in its buffer; we may pass it on"
    (line,) = gateway.error_log.wait_for(phrase)
    assert early.value.reply.request_id in line
    gateway.access_log.wait_for('" 200 ')
    assert origin.connections == 1, "an answer that had begun was asked for again"
