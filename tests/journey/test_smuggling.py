# SPDX-License-Identifier: Apache-2.0
"""Can a request mean one thing to us and another to the upstream?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Behaviour, Connection, Origin, send_then_close
from tests.support.raw import Client, ClosedEarly, Reply, request

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


def replies(client: Client) -> list[Reply]:
    """Every reply until the gateway closes or falls silent."""
    found: list[Reply] = []
    client.socket.settimeout(0.25)
    try:
        while True:
            found.append(client.read_reply())
    except (ClosedEarly, TimeoutError):
        return found


def send(gateway: Gateway, data: bytes) -> tuple[list[Reply], bool]:
    """The replies, and whether the connection was closed."""
    with gateway.connect() as client:
        try:
            client.send(data)
        except OSError:
            return replies(client), True
        return replies(client), client.is_closed(0.1)


def post(path: str, *lines: str, body: bytes = b"", version: str = "1.1", host: str | None = "a") -> bytes:
    return request("POST", path, *lines, host=host, version=version) + body


CHUNKED_ABC = b"3\r\nabc\r\n0\r\n\r\n"

# What no reader may interpret: refused with one of these statuses, the connection closed, nothing sent upstream.
REFUSED: dict[str, tuple[set[int], tuple[str, ...], bytes]] = {
    "content-length and chunked": ({400}, ("Content-Length: 3", "Transfer-Encoding: chunked"), CHUNKED_ABC + SMUGGLED),
    "chunked and content-length": ({400}, ("Transfer-Encoding: chunked", "Content-Length: 3"), CHUNKED_ABC + SMUGGLED),
    "content-length 0 and chunked": ({400}, ("Content-Length: 0", "Transfer-Encoding: chunked"), CHUNKED_ABC),
    "space before the colon": ({400}, ("Transfer-Encoding : chunked",), CHUNKED_ABC),
    "tab before the colon": ({400}, ("Transfer-Encoding\t: chunked",), CHUNKED_ABC),
    "content-length with a space before the colon": ({400}, ("Content-Length : 3",), b"abc"),
    "xchunked": ({400, 501}, ("Transfer-Encoding: xchunked",), CHUNKED_ABC),
    "chunked, identity": ({400, 501}, ("Transfer-Encoding: chunked, identity",), CHUNKED_ABC),
    "identity": ({400, 501}, ("Transfer-Encoding: identity",), CHUNKED_ABC),
    "chunked twice in a line": ({400, 501}, ("Transfer-Encoding: chunked, chunked",), CHUNKED_ABC),
    "chunked in two lines": ({400, 501}, ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), CHUNKED_ABC),
    "chunked, then another coding": ({400, 501}, ("Transfer-Encoding: chunked", "Transfer-Encoding: x"), CHUNKED_ABC),
    "gzip, chunked": ({400, 501}, ("Transfer-Encoding: gzip, chunked",), CHUNKED_ABC),
    "quoted": ({400, 501}, ('Transfer-Encoding: "chunked"',), CHUNKED_ABC),
    "vertical tab before chunked": ({400, 501}, ("Transfer-Encoding: \x0bchunked",), CHUNKED_ABC),
    "form feed before chunked": ({400, 501}, ("Transfer-Encoding: \x0cchunked",), CHUNKED_ABC),
    "bare CR before chunked": ({400, 501}, ("Transfer-Encoding: \rchunked",), CHUNKED_ABC),
    "bare CR after chunked": ({400, 501}, ("Transfer-Encoding: chunked\r",), CHUNKED_ABC),
    "form feed before a content-length": ({400}, ("Content-Length: \x0c3",), b"abc"),
    "bare CR after a content-length": ({400}, ("Content-Length: 3\r",), b"abc"),
    "content_length with an underscore": ({400}, ("Content_Length: 3",), b"abc"),
    "transfer_encoding with an underscore": ({400}, ("Transfer_Encoding: chunked",), CHUNKED_ABC),
    "chunked with a parameter": ({400, 501}, ("Transfer-Encoding: chunked;a=b",), CHUNKED_ABC),
    "empty transfer-encoding": ({400, 501}, ("Transfer-Encoding: ",), CHUNKED_ABC),
    "two different content-lengths": ({400}, ("Content-Length: 3", "Content-Length: 30"), b"abc"),
    "two equal content-lengths": ({400}, ("Content-Length: 3", "Content-Length: 3"), b"abc"),
    "a list of content-lengths": ({400}, ("Content-Length: 3, 3",), b"abc"),
    "signed content-length": ({400}, ("Content-Length: +3",), b"abc"),
    "negative content-length": ({400}, ("Content-Length: -1",), b""),
    "hexadecimal content-length": ({400}, ("Content-Length: 0x3",), b"abc"),
    "content-length with a space inside": ({400}, ("Content-Length: 3 0",), b"abc"),
    "empty content-length": ({400}, ("Content-Length: ",), b""),
    "content-length beyond 64 bits": ({400, 413}, ("Content-Length: 18446744073709551619",), b"abc"),
    "obsolete folding": ({400}, ("X-A: b", " Content-Length: 3"), b"abc"),
    "obsolete folding with a tab": ({400}, ("X-A: b", "\tc"), b""),
    "folded transfer-encoding": ({400, 501}, ("Transfer-Encoding:", " chunked"), CHUNKED_ABC),
    "bare CR in a value": ({400}, ("X-A: b\rContent-Length: 3",), b"abc"),
    "bare CR at the end of a value": ({400}, ("X-A: b\r",), b""),
    "bare CR in a name": ({400}, ("X-\rA: b",), b""),
    "NUL in a value": ({400}, ("X-A: b\0c",), b""),
    "NUL in a name": ({400}, ("X-\0A: b",), b""),
    "empty name": ({400}, (": b",), b""),
    "space in a name": ({400}, ("X A: b",), b""),
    "space before the first name": ({400}, (" X-A: b",), b""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_head_is_refused(gateway: Gateway, echo: Origin, echo_path: str, case: str) -> None:
    statuses, lines, body = REFUSED[case]
    found, is_closed = send(gateway, post(echo_path, *lines, body=body))
    assert len(found) == 1, f"{len(found)} replies to one request: {found}"
    assert found[0].status in statuses
    assert found[0].header("Connection") == "close"
    assert is_closed, "what follows an ambiguous head must not be read as a request"
    assert not echo.requests, "an ambiguous request went upstream"
    gateway.access_log.wait_for(f'" {found[0].status} ')


def test_an_obsolete_fold_right_after_the_request_line_is_refused(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    found, is_closed = send(gateway, f"GET {echo_path} HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n".encode())
    assert [reply.status for reply in found] == [400]
    assert is_closed
    assert not echo.requests


HOSTS: dict[str, tuple[str, ...]] = {
    "missing": (),
    "empty and another": ("Host: ", "Host: a"),
    "doubled": ("Host: a", "Host: a"),
    "doubled, another case": ("Host: a", "HOST: b"),
    "with a space": ("Host: a b",),
    "with a path": ("Host: a/b",),
    "with a NUL": ("Host: a\0b",),
    "with a comma": ("Host: a, b",),
    "with a user": ("Host: user@a",),
}


@pytest.mark.parametrize("case", HOSTS)
def test_a_doubtful_host_is_refused(gateway: Gateway, echo: Origin, echo_path: str, case: str) -> None:
    found, is_closed = send(gateway, request("GET", echo_path, *HOSTS[case], host=None))
    assert [reply.status for reply in found] == [400]
    assert is_closed
    assert not echo.requests


def test_transfer_encoding_on_http_1_0_is_refused(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    found, is_closed = send(gateway, post(echo_path, "Transfer-Encoding: chunked", body=CHUNKED_ABC + SMUGGLED, version="1.0"))
    assert [reply.status for reply in found] == [400]
    assert is_closed
    assert not echo.requests


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", "\tchunked", "chunked\t", "  chunked  "])
def test_what_is_chunked_without_doubt_is_read_as_chunked_or_refused(
    gateway: Gateway, echo: Origin, echo_path: str, value: str
) -> None:
    follower = request("GET", echo_path + "/second", "Connection: close", host="a")
    found, _ = send(gateway, post(echo_path, f"Transfer-Encoding:{value}", body=CHUNKED_ABC) + follower)
    if found[0].status == 200:
        assert [reply.status for reply in found] == [200, 200]
        assert [received.target for received in echo.requests] == ["/", "/second"]
        assert echo.requests[0].body == b"abc"
    else:
        assert [reply.status for reply in found] in ([400], [501])
        assert not echo.requests


CHUNKS: dict[str, bytes] = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "not a number": b"zz\r\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "plus": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus": b"-3\r\nabc\r\n0\r\n\r\n",
    "underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "data longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "no CRLF after the data": b"3\r\nabc0\r\n\r\n",
    "bare CR after the size": b"3\rabc\r\n0\r\n\r\n",
    "space inside the size": b"3 3\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;a=\0b\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", CHUNKS)
def test_a_malformed_chunk_is_refused(gateway: Gateway, echo: Origin, echo_path: str, case: str) -> None:
    found, is_closed = send(gateway, post(echo_path, "Transfer-Encoding: chunked", body=CHUNKS[case] + SMUGGLED))
    assert [reply.status for reply in found] == [400]
    assert is_closed
    assert not echo.requests


def test_an_extension_with_a_bare_lf_does_not_hide_a_request(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    hidden = b"3;\nxx\r\nabc\r\n0\r\n\r\n" + SMUGGLED
    send(gateway, post(echo_path, "Transfer-Encoding: chunked", "Connection: close", body=hidden))
    assert all("smuggled" not in received.target for received in echo.requests)
    assert len(echo.requests) <= 1


def test_a_body_that_looks_like_a_request_stays_a_body(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    found, _ = send(gateway, request("POST", echo_path, "Connection: close", host="a", body=SMUGGLED))
    assert [reply.status for reply in found] == [200]
    assert len(echo.requests) == 1
    assert echo.last.body == SMUGGLED


def test_what_follows_a_refused_body_is_not_a_request(gateway: Gateway, echo: Origin) -> None:
    """A 404 leaves the body unread: it is read and dropped, or the connection ends; it never becomes a request."""
    found, _ = send(gateway, request("POST", "/-/no-route", host="a", body=SMUGGLED))
    assert [reply.status for reply in found] == [404]
    assert not echo.requests


NAMED_IN_CONNECTION = [
    "content-length",
    "Content-Length",
    "transfer-encoding",
    "host",
    "x-consumer-id",
    "x-forwarded-for",
    "x-real-ip",
    "x-kong-request-id",
    "via",
    "connection",
    "close, content-length",
    "keep-alive, host",
]


@pytest.mark.parametrize("named", NAMED_IN_CONNECTION)
def test_connection_cannot_strip_framing_or_identity(gateway: Gateway, echo: Origin, echo_path: str, named: str) -> None:
    found, _ = send(gateway, request("POST", echo_path, f"Connection: {named}", "X-Consumer-ID: forged", host="a", body=b"abc"))
    assert len(found) == 1
    if found[0].status == 400:
        assert not echo.requests
        return
    assert found[0].status == 200
    assert len(echo.requests) == 1
    assert echo.last.body == b"abc"
    assert echo.last.header("Content-Length") == "3"
    assert echo.last.header("Host") == f"127.0.0.1:{echo.port}"
    assert echo.last.header("X-Forwarded-For") == "127.0.0.1"
    assert echo.last.header("X-Real-IP") == "127.0.0.1"
    assert echo.last.header("X-Kong-Request-Id")
    assert echo.last.header("Via")
    assert echo.last.header("X-Consumer-ID") is None


def test_connection_cannot_strip_the_framing_of_a_chunked_body(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    lines = ("Connection: transfer-encoding", "Transfer-Encoding: chunked")
    found, _ = send(gateway, post(echo_path, *lines, body=CHUNKED_ABC + SMUGGLED.replace(b"evil", b"a")))
    assert found[0].status in (200, 400)
    if found[0].status == 200:
        assert echo.requests[0].body == b"abc"
    assert all("smuggled" not in received.target for received in echo.requests)


IDENTITY = [
    "X-Consumer-ID",
    "X-Consumer-Username",
    "X-Consumer-Custom-ID",
    "X-Consumer-Groups",
    "X-Credential-Identifier",
    "X-Credential-Username",
    "X-Anonymous-Consumer",
    "x_consumer_id",
    "X_Consumer-Username",
    "X-Consumer_Custom_ID",
    "x_credential_identifier",
    "X_Anonymous_Consumer",
    "X-CONSUMER-ID",
]


@pytest.mark.parametrize("name", IDENTITY)
def test_a_client_cannot_say_who_it_is(gateway: Gateway, echo: Origin, echo_path: str, name: str) -> None:
    assert gateway.get(echo_path, f"{name}: forged", "X-Consumers: mine").status == 200
    assert b"forged" not in echo.last.head
    assert echo.last.header("X-Consumers") == "mine", "a header that only begins alike was removed"


HOP_BY_HOP = [
    ("Connection: X-Hop", "X-Hop: 1"),
    ("Proxy-Connection: keep-alive",),
    ("Keep-Alive: timeout=5",),
    ("TE: gzip",),
    ("Proxy: http://evil/",),
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
]


@pytest.mark.parametrize("lines", HOP_BY_HOP, ids=lambda lines: lines[-1])
def test_hop_by_hop_headers_stay_on_their_hop(gateway: Gateway, echo: Origin, echo_path: str, lines: tuple[str, ...]) -> None:
    assert gateway.get(echo_path, *lines).status == 200
    assert echo.last.header(lines[-1].partition(":")[0]) is None
    assert echo.last.header("Upgrade") is None
    assert echo.last.header("Connection") == "keep-alive"


def test_te_trailers_goes_upstream(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    assert gateway.get(echo_path, "TE: trailers").status == 200
    assert echo.last.header("TE") == "trailers"


REQUEST_LINES = [
    b"GET /x HTTP/1.1 \r\n",
    b"GET\t/x\tHTTP/1.1\r\n",
    b"GET /x\x00 HTTP/1.1\r\n",
    b"GET /x HTTP/1.1\rX: y\r\n",
    b"GET /x HTTP/01.1\r\n",
    b"GET /x HTTP/1.1X\r\n",
    b"GET /x\x7f HTTP/1.1\r\n",
    b"G=T /x HTTP/1.1\r\n",
    b"GET x HTTP/1.1\r\n",
    b"GET /x y HTTP/1.1\r\n",
]


@pytest.mark.parametrize("line", REQUEST_LINES, ids=repr)
def test_a_doubtful_request_line_is_one_request_or_refused(gateway: Gateway, echo: Origin, echo_path: str, line: bytes) -> None:
    found, _ = send(gateway, line.replace(b"/x", echo_path.encode()) + b"Host: a\r\nConnection: close\r\n\r\n")
    assert len(found) == 1
    assert found[0].status in (200, 400, 404, 505)
    assert len(echo.requests) == (1 if found[0].status == 200 else 0)
    if echo.requests:
        assert len(echo.last.request_line.split(" ")) == 3, "the request line went upstream as it came"


def test_an_unknown_expectation_is_refused_or_dropped(gateway: Gateway, echo: Origin, echo_path: str) -> None:
    reply = gateway.get(echo_path, "Expect: 200-maybe")
    assert reply.status in (200, 417)
    assert all(received.header("Expect") is None for received in echo.requests)


# What an upstream may say that its next reader would take for two responses.
AMBIGUOUS_ANSWERS: dict[str, bytes] = {
    "bare CR in a value": b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 2\r\n\r\nok",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "negative content-length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "a list of content-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nokk",
    "unknown transfer-encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", AMBIGUOUS_ANSWERS)
def test_an_ambiguous_answer_is_502(
    gateway: Gateway, blueprints: Blueprints, make_origin: Callable[[Behaviour], Origin], case: str
) -> None:
    origin = make_origin(send_then_close(AMBIGUOUS_ANSWERS[case]))
    reply = gateway.get(blueprints.path(origin))
    assert reply.status == 502
    assert origin.connections == 1, "what the upstream may have acted on was sent again"
    gateway.error_log.wait_for("while reading response header from upstream")


def test_bytes_after_an_answer_are_nobody_s_answer(
    gateway: Gateway, blueprints: Blueprints, make_origin: Callable[[Behaviour], Origin]
) -> None:
    """An upstream that sends more than it announced must not have the rest read as the next client's response."""

    def talkative(connection: Connection) -> None:
        while True:
            connection.read_head()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    path = blueprints.path(make_origin(talkative))
    for _ in range(5):
        assert gateway.get(path).body == b"ok"
