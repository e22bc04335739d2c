# SPDX-License-Identifier: Apache-2.0
"""Do bodies arrive as they were sent, in constant memory, and are they replayed only when they may be?"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support import processes
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, answer, early_close, send_then_close
from tests.support.ports import free_port
from tests.support.raw import Client, ClosedEarly, request
from tests.support.wait import holds_for, until

MakeOrigin = Callable[[Behaviour], Origin]

MIB = 1 << 20
BLOCK = os.urandom(MIB)
# What a worker may grow by while a large body passes, spill file and allocator slack included.
GROWTH_LIMIT_BYTES = 48 * MIB


# === framing ===


def test_100_continue_invites_the_body(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    with gateway.connect() as client:
        client.send(request("POST", echo_path, "Expect: 100-continue", "Content-Length: 4"))
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.send(b"body").read_reply().status == 200
    assert echo.last.body == b"body"
    assert echo.last.header("Expect") is None


def test_100_continue_is_not_said_when_there_is_no_route(gateway: Gateway) -> None:
    with gateway.connect() as client:
        reply = client.send(request("POST", "/-/no", "Expect: 100-continue", "Content-Length: 4")).read_reply()
    assert (reply.status, reply.interim) == (404, [])


def test_100_continue_is_not_waited_for(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    with gateway.connect() as client:
        reply = client.send(request("POST", echo_path, "Expect: 100-continue", body=b"body")).read_reply()
    assert reply.status == 200
    assert echo.last.body == b"body"


@pytest.mark.parametrize(
    ("status", "lines", "method"),
    [
        ("200 OK", ("Content-Length: 1234",), "HEAD"),
        ("200 OK", ("Transfer-Encoding: chunked",), "HEAD"),
        ("204 No Content", (), "GET"),
        ("304 Not Modified", ("Content-Length: 1234", 'ETag: "a"'), "GET"),
        ("304 Not Modified", (), "GET"),
    ],
    ids=["head", "head-chunked", "204", "304-with-length", "304"],
)
def test_what_has_no_body_leaves_the_connection_usable(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, status: str, lines: tuple[str, ...], method: str
) -> None:
    origin = make_origin(answer(b"", *lines, status=status, length=False))
    path = blueprints.path(origin)
    with gateway.connect() as client:
        for _ in range(3):
            reply = client.send(request(method, path)).read_reply(method)
            assert f"{reply.status} {reply.reason}" == status
        assert client.is_silent(0.1), "bytes of a body that must not be"
    assert origin.connections == 1
    if "Content-Length: 1234" in lines:
        assert reply.header("Content-Length") == "1234"


def test_a_chunked_request_arrives_whole(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    body = b"5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"
    with gateway.connect() as client:
        assert client.send(request("POST", echo_path, "Transfer-Encoding: chunked") + body).read_reply().status == 200
    assert echo.last.body == b"hello world"
    assert echo.last.header("Content-Length") == "11", "a buffered body has a known length"
    assert echo.last.header("Transfer-Encoding") is None


def test_a_chunked_request_streams_chunked(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(echo, route={"request_buffering": False})
    with gateway.connect() as client:
        client.send(request("POST", path, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        echo.wait_requests(1)
        assert client.send(b"2\r\nde\r\n0\r\n\r\n").read_reply().status == 200
    assert echo.last.body == b"abcde"
    assert echo.last.header("Transfer-Encoding") == "chunked"


@pytest.mark.parametrize("buffering", [True, False], ids=["buffered", "streamed"])
def test_request_trailers_never_become_headers(
    gateway: Gateway, blueprints: Blueprints, echo: Origin, *, buffering: bool
) -> None:
    path = blueprints.path(echo, route={"request_buffering": buffering})
    body = b"3\r\nabc\r\n0\r\nX-Consumer-ID: forged\r\nContent-Length: 7\r\n\r\n"
    with gateway.connect() as client:
        client.send(request("POST", path, "Transfer-Encoding: chunked", "Trailer: X-Sum") + body)
        assert client.read_reply().status == 200
        assert client.send(request("GET", path)).read_reply().status == 200, "the trailers ended the message"
    assert echo.requests[0].body == b"abc"
    assert b"forged" not in echo.requests[0].head
    assert not [name for name, _ in echo.requests[0].trailers if name.lower() in ("x-consumer-id", "content-length")]


def test_response_trailers_do_not_disturb(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    body = b"3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
    path = blueprints.path(make_origin(answer(body, "Transfer-Encoding: chunked", "Trailer: X-Sum", length=False)))
    with gateway.connect() as client:
        for _ in range(2):
            reply = client.send(request("GET", path, "TE: trailers")).read_reply()
            assert reply.body == b"abc"
            assert reply.header("X-Sum") is None
            assert reply.trailers in ([], [("X-Sum", "6")])


def test_a_chunked_answer_is_unchunked_for_http_1_0(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    path = blueprints.path(make_origin(answer(b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False)))
    with gateway.connect() as client:
        reply = client.send(request("GET", path, version="1.0")).read_reply()
        assert client.is_closed()
    assert reply.header("Transfer-Encoding") is None
    assert reply.body == b"abc"


def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_client(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    path = blueprints.path(make_origin(send_then_close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")))
    with gateway.connect() as client:
        for _ in range(2):
            reply = client.send(request("GET", path)).read_reply()
            assert reply.body == b"until the end"
            assert reply.header("Transfer-Encoding") == "chunked"


def test_an_answer_before_the_body_is_passed_on(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    def hasty(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        connection.pause(0.1)
        connection.close()

    path = blueprints.path(make_origin(hasty), route={"request_buffering": False})
    with gateway.connect() as client:
        reply = client.send(request("POST", path, "Content-Length: 1000000") + b"x" * 1000).read_reply()
    assert (reply.status, reply.body) == (413, b"no")


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
def test_an_interim_answer_does_not_end_a_streamed_body(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, interim: bytes
) -> None:
    def hints(connection: Connection) -> None:
        received = connection.read_head()
        connection.send(interim)
        connection.read_body(received)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    origin = make_origin(hints)
    path = blueprints.path(origin, route={"request_buffering": False}, read_timeout=2000)
    with gateway.connect() as client:
        client.send(request("POST", path, "Content-Length: 6") + b"abc")
        origin.wait_requests(1)
        assert client.is_silent(0.1)
        reply = client.send(b"def").read_reply()
    assert (reply.status, reply.body) == (200, b"ok")
    assert origin.last.body == b"abcdef"


@contextmanager
def setting(name: str, value: str) -> Iterator[Gateway]:
    with Gateway({name: value}) as started:
        yield started


def test_a_body_over_the_limit_is_413(echo: Origin) -> None:
    with setting("nginx_http_client_max_body_size", "1k") as gateway:
        path = Blueprints(gateway).path(echo)
        assert gateway.send(request("POST", path, body=b"x" * 1024)).status == 200
        assert gateway.send(request("POST", path, "Content-Length: 1025")).status == 413
        chunked = request("POST", path, "Transfer-Encoding: chunked", "Accept: application/json")
        reply = gateway.send(chunked + b"401\r\n" + b"x" * 1025 + b"\r\n0\r\n\r\n")
        assert reply.status == 413
        assert b'"message":"Payload too large"' in reply.body
    assert len(echo.requests) == 1


# === buffering ===


def test_a_buffered_request_meets_the_upstream_only_when_whole(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    body = os.urandom(100_000)  # beyond client_body_buffer_size: spilled
    with gateway.connect() as client:
        client.send(request("POST", echo_path, f"Content-Length: {len(body)}") + body[:-1])
        until(lambda: list((gateway.prefix / "spool").glob("*")) or _deleted_spool(gateway), "the spill file")
        holds_for(lambda: not echo.requests, "the upstream was called before the body was whole", 0.2)
        assert client.send(body[-1:]).read_reply().status == 200
    assert echo.last.body == body
    until(lambda: not list((gateway.prefix / "spool").glob("*")) and not _deleted_spool(gateway), "the spool to empty")


def _deleted_spool(gateway: Gateway) -> bool:
    """A spill file may be unlinked at once and live by its descriptor alone."""
    return any("/spool/" in file for pid in gateway.worker_pids() for file in processes.open_files(pid))


def test_a_streamed_request_meets_the_upstream_at_once(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    path = blueprints.path(echo, route={"request_buffering": False})
    with gateway.connect() as client:
        client.send(request("POST", path, "Content-Length: 6") + b"abc")
        echo.wait_requests(1)
        assert client.send(b"def").read_reply().status == 200
    assert echo.last.body == b"abcdef"


class FailsFirst:
    """Reads a whole request and closes without an answer so many times; then answers."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, connection: Connection) -> None:
        received = connection.read_head()
        connection.read_body(received)
        if self.left:
            self.left -= 1
            connection.close()
            return
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        connection.close()


@pytest.mark.parametrize("size_bytes", [10, 300_000], ids=["in-memory", "spilled"])
def test_a_buffered_put_is_replayed_byte_for_byte(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, size_bytes: int
) -> None:
    origin = make_origin(FailsFirst(2))
    body = os.urandom(size_bytes)
    assert gateway.send(request("PUT", blueprints.path(origin), body=body)).status == 200
    assert [received.body for received in origin.requests] == [body] * 3


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
def test_what_may_have_acted_is_not_repeated(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, method: str
) -> None:
    origin = make_origin(FailsFirst(1))
    assert gateway.send(request(method, blueprints.path(origin), body=b"x")).status == 502
    assert origin.connections == 1


def test_a_streamed_body_that_was_taken_is_not_replayed(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    origin = make_origin(FailsFirst(1))
    path = blueprints.path(origin, route={"request_buffering": False})
    assert gateway.send(request("PUT", path, body=b"x" * 1000)).status == 502
    assert origin.connections == 1


def test_a_streamed_body_that_nobody_took_meets_the_next_target(gateway: Gateway, blueprints: Blueprints, echo: Origin) -> None:
    upstream = blueprints.upstream(f"127.0.0.1:{free_port()}", f"127.0.0.1:{echo.port}")
    path = blueprints.path(f"http://{upstream['name']}/", route={"request_buffering": False})
    for _ in range(4):
        assert gateway.send(request("POST", path, body=b"kept")).status == 200
        assert echo.last.body == b"kept"


def test_a_streamed_get_without_a_body_is_retried(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(FailsFirst(2))
    path = blueprints.path(origin, route={"request_buffering": False})
    assert gateway.get(path).status == 200
    assert origin.connections == 3


def test_retries_of_the_service_bound_the_attempts(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    origin = make_origin(early_close)
    assert gateway.get(blueprints.path(origin, retries=2)).status == 502
    assert origin.connections == 3


def slow_client(gateway: Gateway) -> Client:
    """A client whose kernel takes little in advance."""
    client = Client.__new__(Client)
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(30)
    client.socket.connect(("127.0.0.1", gateway.proxy_port))
    client.received = client._unread = b""
    return client


class Downloads:
    """Answers each request with so many MiB and remembers how much of it went out."""

    def __init__(self, mib: int) -> None:
        self.mib, self.sent_mib, self.finished = mib, 0, threading.Event()

    def __call__(self, connection: Connection) -> None:
        while True:
            connection.read_head()
            connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {self.mib * MIB}\r\n\r\n".encode())
            for _ in range(self.mib):
                connection.send(BLOCK)
                self.sent_mib += 1
            self.finished.set()


def test_a_slow_client_does_not_hold_the_upstream(gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin) -> None:
    downloads = Downloads(1)
    path = blueprints.path(make_origin(downloads))
    with slow_client(gateway) as client:
        client.send(request("GET", path))
        assert downloads.finished.wait(5), "the upstream waits for the client"
        assert client.read_reply().body == BLOCK


@pytest.mark.parametrize("buffering", [True, False], ids=["buffered", "streamed"])
def test_a_stalled_client_costs_bounded_memory(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, *, buffering: bool
) -> None:
    """Buffered: the upstream is free long before the client has read; streamed: it waits. The worker grows by neither."""
    downloads = Downloads(300)
    origin = make_origin(downloads)
    path = blueprints.path(origin, route={"response_buffering": buffering})
    with constant_memory(gateway), slow_client(gateway) as client:
        client.send(request("GET", path)).read_head()
        if buffering:
            assert downloads.finished.wait(10), "the upstream waits for the client"
        else:
            assert not downloads.finished.wait(0.5), "a streamed response was read far ahead of its client"
            assert downloads.sent_mib < 64
    origin.wait_idle(10)


# === large ===


def upload(gateway: Gateway, path: str, mib: int, *, chunked: bool) -> int:
    """Send so many MiB; the status."""
    with gateway.connect() as client:
        client.socket.settimeout(600)
        if chunked:
            client.send(request("PUT", path, "Transfer-Encoding: chunked"))
            for _ in range(mib):
                client.send(b"%x\r\n" % MIB + BLOCK + b"\r\n")
            client.send(b"0\r\n\r\n")
        else:
            client.send(request("PUT", path, f"Content-Length: {mib * MIB}"))
            for _ in range(mib):
                client.send(BLOCK)
        return client.read_reply().status


def sink(connection: Connection) -> None:
    """Take a body and say how long it was."""
    while True:
        received = connection.read_head()
        length = str(connection.discard_body(received)).encode()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Length: " + length + b"\r\nContent-Length: 0\r\n\r\n")


SIZES = [
    pytest.param(200, id="200MB"),
    pytest.param(5000, id="5GB", marks=[pytest.mark.nightly, pytest.mark.timeout(600)]),
]


@contextmanager
def constant_memory(gateway: Gateway) -> Iterator[None]:
    """The worker's resident memory does not grow with the body."""
    (worker,) = gateway.worker_pids()
    processes.reset_peak_rss(worker)
    before_bytes = processes.rss_bytes(worker)
    yield
    growth_bytes = processes.peak_rss_bytes(worker) - before_bytes
    assert growth_bytes < GROWTH_LIMIT_BYTES, f"the worker grew by {growth_bytes / MIB:.0f} MiB"


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize(
    ("buffering", "chunked"), [(True, False), (False, False), (False, True)], ids=["buffered", "streamed", "chunked"]
)
def test_a_large_upload_passes_in_constant_memory(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, mib: int, *, buffering: bool, chunked: bool
) -> None:
    origin = make_origin(sink)
    path = blueprints.path(origin, route={"request_buffering": buffering})
    with constant_memory(gateway):
        assert upload(gateway, path, mib, chunked=chunked) == 200


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("buffering", [True, False], ids=["buffered", "streamed"])
def test_a_large_download_passes_in_constant_memory(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin, mib: int, *, buffering: bool
) -> None:
    path = blueprints.path(make_origin(Downloads(mib)), route={"response_buffering": buffering})
    with constant_memory(gateway), gateway.connect() as client:
        client.socket.settimeout(600)
        reply = client.send(request("GET", path)).read_head()
        assert reply.header("Content-Length") == str(mib * MIB)
        expected = hashlib.blake2b(BLOCK).digest()
        for _ in range(mib):
            assert hashlib.blake2b(client.read_exactly(MIB)).digest() == expected


def test_a_download_that_breaks_off_is_broken_off_for_the_client(
    gateway: Gateway, blueprints: Blueprints, make_origin: MakeOrigin
) -> None:
    """What was announced and did not come must not look complete; see also the truncated_* transcripts."""

    def breaks_off(connection: Connection) -> None:
        connection.read_head()
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {10 * MIB}\r\n\r\n".encode() + BLOCK)
        connection.reset()

    path = blueprints.path(make_origin(breaks_off))
    with gateway.connect() as client, pytest.raises(ClosedEarly):
        client.send(request("GET", path)).read_reply()
    gateway.error_log.wait_for(" failed (104: Connection reset by peer) while reading upstream")
