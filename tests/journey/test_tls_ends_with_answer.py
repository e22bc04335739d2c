# SPDX-License-Identifier: Apache-2.0
"""Is close_notify noticed that came with the last bytes of an answer, when the connection itself stays open?"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

from tests.support.blueprints import Blueprints
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Connection, Origin
from tests.support.raw import request

OK = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"


def answers_and_says_close_notify(connection: Connection) -> None:
    """Both in one segment; a request that came now would get no answer."""
    connection.read_body(connection.read_head())
    assert isinstance(connection.socket, ssl.SSLSocket)
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    connection.send(OK)
    connection.socket.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.socket.unwrap()
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    connection.pause(10)


def test_close_notify_that_came_with_an_answer_is_noticed(gateway: Gateway, blueprints: Blueprints, tmp_path: Path) -> None:
    context = self_signed(tmp_path, "127.0.0.1").server_context()
    with Origin(answers_and_says_close_notify, tls=context) as origin:
        path = blueprints.path(origin, retries=0, tls_verify=False)
        assert gateway.get(path).status == 200
        assert gateway.send(request("POST", path, body=b"x")).status == 200
        assert [one.connection for one in origin.requests] == [1, 2]
