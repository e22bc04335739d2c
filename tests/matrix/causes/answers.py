# SPDX-License-Identifier: Apache-2.0
"""Which answers does HTTP not allow?"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.bed import LONG, SHORT, Bed, fin, hangs, reply, sends
from tests.matrix.case import ALL, FRESH, PLAIN, REUSED, TLS_FRESH, Broken, Variant, cause, right
from tests.support.origin import Connection, Received

GROUP = "http"
SERVER = "second_lb"


def _answering(bed: Bed, variant: Variant, data: bytes) -> Iterator[Broken]:
    with bed.faulty(variant, sends(data, hangs), service=LONG) as broken:
        yield broken


@cause(
    GROUP,
    "rubbish in place of the status line",
    right("upstream", "protocol_mismatch bad_response", "HTTP", unsure=SERVER),
    ALL,
    is_fast=True,
)
def garbage_status(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"this is not http\r\n\r\n")


@cause(
    GROUP,
    "a status that is no number of three digits",
    right("upstream", "protocol_mismatch bad_response", unsure=SERVER),
    PLAIN,
    is_fast=True,
)
def impossible_status(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok")


@cause(
    GROUP,
    "a header name with a blank and a zero byte",
    right("upstream", "bad_response", "header", unsure=SERVER),
    ALL,
    is_fast=True,
)
def bad_header(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nBad Header\0Name: x\r\nContent-Length: 2\r\n\r\nok")


@cause(GROUP, "a header line without a colon", right("upstream", "bad_response", unsure=SERVER), PLAIN)
def header_without_colon(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nThis line is not a header\r\nContent-Length: 2\r\n\r\nok")


@cause(
    GROUP,
    "Content-Length and Transfer-Encoding together",
    right("upstream", "bad_response", "Transfer-Encoding|transfer coding", unsure=SERVER),
    ALL,
    is_fast=True,
)
def length_and_chunked(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    yield from _answering(bed, variant, data)


@cause(
    GROUP, "two Content-Length that differ", right("upstream", "bad_response", "Content-Length", unsure=SERVER), ALL, is_fast=True
)
def duplicate_length(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")


@cause(GROUP, "a Content-Length that is no number", right("upstream", "bad_response", "Content-Length", unsure=SERVER), PLAIN)
def negative_length(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")


@cause(
    GROUP,
    "a transfer coding nobody knows",
    right("upstream", "bad_response", "Transfer-Encoding|transfer coding", unsure=SERVER),
    PLAIN,
)
def unknown_coding(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, identity\r\n\r\nok")


@cause(
    GROUP,
    "a head larger than the gateway takes: a cookie that grew",
    right("upstream", "response_header_too_large", "Set-Cookie|header", unsure=SERVER),
    ALL,
    is_fast=True,
)
def too_big_header(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=" + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok"
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "many small headers that are too large together",
    right("upstream", "response_header_too_large bad_response", unsure=SERVER),
    PLAIN,
)
def too_many_headers(bed: Bed, variant: Variant) -> Iterator[Broken]:
    lines = b"".join(b"X-Filler-%d: %s\r\n" % (number, b"a" * 40) for number in range(2_000))
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nok")


@cause(GROUP, "a chunk size that is no number", right("upstream", "bad_response_body", "chunk", unsure=SERVER), ALL, is_fast=True)
def bad_chunk(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n")


@cause(GROUP, "a chunk without the line end after it", right("upstream", "bad_response_body", "chunk", unsure=SERVER), PLAIN)
def chunk_without_end(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _answering(bed, variant, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n")


@cause(
    GROUP,
    "a body without any head (HTTP/0.9)",
    right("upstream", "protocol_mismatch bad_response", "HTTP", unsure=SERVER),
    ALL,
    is_fast=True,
)
def http_0_9(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"<html><body>hello</body></html>\n", fin)) as broken:
        yield broken


@cause(
    GROUP,
    "an endless flood of 1xx answers",
    right("upstream", "bad_response read_timeout", "1xx|interim|informational|100", unsure=SERVER),
    (FRESH, TLS_FRESH),
    is_fast=True,
)
def interim_flood(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        while True:
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)

    with bed.faulty(variant, fault, service=SHORT) as broken:
        yield broken


@cause(
    GROUP,
    "101 that nobody asked for",
    right("upstream", "bad_response", "101|upgrade|switch", unsure=SERVER),
    PLAIN,
    is_fast=True,
)
def unasked_upgrade(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    yield from _answering(bed, variant, data)


@cause(
    GROUP,
    "an answer before the request ended: 503, then a reset while the body is on its way",
    # What of it arrives before the reset is a race that the server runs with itself.
    right("upstream", "unavailable_behind upstream_error write_failed reset", unsure=SERVER),
    (FRESH, REUSED),
    is_fast=True,
)
def answer_before_end_of_request(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        connection.receive(1)
        connection.send(
            reply("503 Service Unavailable", b'{"error":"too busy"}', "Content-Type: application/json", "Connection: close")
        )
        connection.pause(0.1)
        connection.reset()

    with bed.faulty(variant, fault, method="POST", body=b"x" * (8 << 20), service=LONG) as broken:
        yield broken
