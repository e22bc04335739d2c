# SPDX-License-Identifier: Apache-2.0
"""Is a connection judged rightly that ends, or hardly moves, while a client or an upstream is slow: plain, and over TLS?"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from typing import Any

import pytest

from tests.support.blueprints import Blueprints
from tests.support.certificates import self_signed
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin
from tests.support.raw import Client, request

WORKERS = 1

# What the kernels between hold is less by far.
LARGE_BYTES = 24 << 20
OK = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"
# A pooled connection is looked at when no answer has come for two seconds.
STALLS_FOR_S = 3.0

Serve = Callable[[Behaviour, str], Origin]
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return self_signed(tmp_path_factory.mktemp("keys"), "127.0.0.1").server_context()


@pytest.fixture
def serve(context: ssl.SSLContext) -> Iterator[Serve]:
    """Starts origins, with TLS or without, that end with the test."""
    with ExitStack() as stack:
        started: list[Origin] = []

        def start(behaviour: Behaviour, scheme: str) -> Origin:
            started.append(stack.enter_context(Origin(behaviour, tls=context if scheme == "https" else None)))
            return started[-1]

        yield start
        assert [failure for origin in started for failure in origin.failures] == []


def path_to(blueprints: Blueprints, origin: Origin, retries: int = 0) -> str:
    """A path that leads to the origin, whose certificate nobody checks. No retries, unless they are said: what is sent again
    is sent again for the connection's sake."""
    checks: dict[str, Any] = {"tls_verify": False} if origin.tls else {}
    return blueprints.path(origin, retries=retries, **checks)


# === slow clients ===


class EndsAfterLarge:
    """Answers a request for `/large` with much, and ends the connection then.

    Attributes:
        has_ended: it has.
    """

    def __init__(self) -> None:
        self.has_ended = threading.Event()

    def __call__(self, connection: Connection) -> None:
        while True:
            received = connection.read_head()
            connection.read_body(received)
            if not received.target.endswith("/large"):
                connection.send(OK)
                continue
            connection.send(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
            connection.send(b"x" * LARGE_BYTES)
            self._end(connection)
            self.has_ended.set()
            return

    def _end(self, connection: Connection) -> None:
        if isinstance(connection.socket, ssl.SSLSocket):
            connection.socket.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                connection.socket.unwrap()  # says close_notify; ours would come next
        connection.close()


@SCHEMES
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_ended_while_its_client_was_slow_is_not_used(
    gateway: Gateway, blueprints: Blueprints, serve: Serve, method: str, scheme: str
) -> None:
    behaviour = EndsAfterLarge()
    origin = serve(behaviour, scheme)
    path = path_to(blueprints, origin)
    with gateway.connect() as slow:
        slow.send(request("GET", f"{path}/large"))
        assert slow.read_head().status == 200
        assert behaviour.has_ended.wait(10), "the gateway did not take the answer in"
        assert len(slow.read_exactly(LARGE_BYTES)) == LARGE_BYTES
        assert gateway.send(request(method, path, body=b"x" if method == "POST" else None)).status == 200
        assert slow.send(request("GET", path)).read_reply().status == 200
    assert [one.connection for one in origin.requests] == [1, 2, 2]
    assert gateway.error_log.containing("sent again") == []


# === interim answers ===


def hints_and_closes(connection: Connection) -> None:
    """Answers the first request of a connection; of the next it says that it has it, and ends."""
    connection.read_body(connection.read_head())
    connection.send(OK)
    connection.read_body(connection.read_head())
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    connection.close()


@SCHEMES
@pytest.mark.parametrize(("method", "retries", "status", "times"), [("GET", 0, 502, 1), ("GET", 1, 200, 2), ("POST", 1, 502, 1)])
def test_a_close_behind_an_interim_answer_is_no_idle_close(
    gateway: Gateway, blueprints: Blueprints, serve: Serve, method: str, retries: int, status: int, times: int, scheme: str
) -> None:
    """The server has the request: what is sent again is a try on the Service's account."""
    origin = serve(hints_and_closes, scheme)
    path = path_to(blueprints, origin, retries)
    assert gateway.get(path).status == 200
    assert gateway.send(request(method, path, body=b"once" if method == "POST" else None)).status == status
    assert [one.connection for one in origin.requests[1:]] == [1, 2][:times]


# === slow upstreams ===


def stalls(connection: Connection) -> None:
    """Takes the head of a PUT, and its body only when long nothing has moved."""
    while True:
        received = connection.read_head()
        if received.method == "PUT":
            connection.pause(STALLS_FOR_S)
            connection.discard_body(received)
        connection.send(OK)


def trickles(connection: Connection) -> None:
    """Takes the body of a PUT in small parts, all the time."""
    while True:
        received = connection.read_head()
        missing_bytes = int(received.header("Content-Length") or 0)
        part_bytes = missing_bytes // 30 + 1
        while missing_bytes:
            missing_bytes -= len(connection.read_exactly(min(part_bytes, missing_bytes)))
            connection.pause(STALLS_FOR_S / 30)
        connection.send(OK)


def test_an_upstream_that_takes_a_body_slowly_on_a_pooled_connection_is_not_taken_for_dead(
    gateway: Gateway, blueprints: Blueprints, serve: Serve
) -> None:
    """With a body that the kernels hold whole, so that nothing but the answer is waited for, and with one of which they do
    not."""
    sizes_bytes = (300_000, 12 << 20)
    cases = [
        (serve(behaviour, scheme), size_bytes)
        for behaviour, scheme, size_bytes in product((stalls, trickles), ("http", "https"), sizes_bytes)
    ]
    paths = [path_to(blueprints, origin) for origin, _ in cases]

    def put(path: str, size_bytes: int) -> int:
        assert gateway.get(path).status == 200
        with Client(gateway.proxy_port, timeout_s=30) as client:
            return client.send(request("PUT", path, body=b"x" * size_bytes)).read_reply().status

    with ThreadPoolExecutor(len(cases)) as threads:
        statuses = list(threads.map(put, paths, [size_bytes for _, size_bytes in cases]))
    assert statuses == [200] * len(cases)
    for origin, size_bytes in cases:
        assert [(one.method, one.connection) for one in origin.requests] == [("GET", 1), ("PUT", 1)], size_bytes
    assert gateway.error_log.containing("sent again") == []
