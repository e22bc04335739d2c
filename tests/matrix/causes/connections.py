# SPDX-License-Identifier: Apache-2.0
"""How does a server end a connection where it must not?"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from tests.matrix.bed import LONG, Bed, Fault, fin, rst, sends
from tests.matrix.case import ALL, FRESH, PLAIN, TLS_FRESH, Broken, Variant, cause, right
from tests.support.origin import Connection, Received, close_on_accept

GROUP = "tcp"
# On a pooled connection, or far away, a device between may have ended it.
BETWEEN = "network second_lb"

PARTIAL_STATUS = b"HTTP/1.1 20"
PARTIAL_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Le"
PARTIAL_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789"
PARTIAL_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def _breaking(bed: Bed, variant: Variant, fault: Fault) -> Iterator[Broken]:
    """A pooled connection that ends is tried again for a GET: only what must not be repeated fails by it alone."""
    method, body = ("POST", b"once") if variant.reused else ("GET", None)
    with bed.faulty(variant, fault, method=method, body=body) as broken:
        yield broken


@cause(
    GROUP,
    "closed at once after accepting (FIN)",
    right("upstream", "closed_before_headers reset write_failed", "clos", unsure=BETWEEN),
    is_fast=True,
)
def close_at_accept(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.close()

    with bed.behind(serve) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "reset at once after accepting",
    right("upstream", "reset write_failed closed_before_headers", unsure=BETWEEN),
    is_fast=True,
)
def reset_at_accept(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.reset()

    with bed.behind(serve) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "closed with the request unread (the kernel resets)",
    right("upstream", "reset", unsure=BETWEEN),
    is_fast=True,
)
def close_with_request_unread(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(close_on_accept) as origin:
        yield Broken(origin.url)


@cause(
    GROUP,
    "closed after the request, before any byte (a crash)",
    right("upstream", "closed_before_headers", "clos", unsure=BETWEEN),
    ALL,
    is_fast=True,
)
def close_before_any_byte(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(b"", fin))


@cause(GROUP, "reset after the request, before any byte", right("upstream", "reset", "reset", unsure=BETWEEN), ALL, is_fast=True)
def reset_before_any_byte(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(b"", rst))


@cause(GROUP, "closed after half a status line", right("upstream", "closed_before_headers", unsure=BETWEEN), ALL)
def close_after_partial_status(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_STATUS, fin))


@cause(GROUP, "reset after half a status line", right("upstream", "reset", unsure=BETWEEN), ALL)
def reset_after_partial_status(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_STATUS, rst))


@cause(
    GROUP,
    "closed in the middle of the header",
    right("upstream", "closed_before_headers", unsure=BETWEEN),
    ALL,
    is_fast=True,
)
def close_after_partial_headers(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_HEADERS, fin))


@cause(GROUP, "reset in the middle of the header", right("upstream", "reset", unsure=BETWEEN), ALL)
def reset_after_partial_headers(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_HEADERS, rst))


@cause(
    GROUP,
    "closed in the middle of a body of known length",
    right("upstream", "closed_in_body", unsure=BETWEEN),
    ALL,
    is_fast=True,
)
def close_in_body(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_BODY, fin))


@cause(GROUP, "reset in the middle of a body", right("upstream", "reset_in_body", unsure=BETWEEN), ALL, is_fast=True)
def reset_in_body(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_BODY, rst))


@cause(GROUP, "closed between two chunks", right("upstream", "closed_in_body", unsure=BETWEEN), ALL)
def close_in_chunks(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_CHUNKS, fin))


@cause(GROUP, "reset between two chunks", right("upstream", "reset_in_body", unsure=BETWEEN), PLAIN)
def reset_in_chunks(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _breaking(bed, variant, sends(PARTIAL_CHUNKS, rst))


@cause(
    GROUP,
    "closed while a large body is being sent",
    right("upstream", "write_failed reset closed_before_headers", unsure=BETWEEN),
    (FRESH, TLS_FRESH),
    is_fast=True,
)
def close_during_upload(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        connection.receive(1)
        connection.close()

    with bed.faulty(variant, fault, method="POST", body=b"x" * (8 << 20), service=LONG) as broken:
        yield broken


@cause(
    GROUP,
    "reset while a large body is being sent",
    right("upstream", "write_failed reset", unsure=BETWEEN),
    (FRESH,),
)
def reset_during_upload(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        connection.receive(1)
        connection.reset()

    with bed.faulty(variant, fault, method="POST", body=b"x" * (8 << 20), service=LONG) as broken:
        yield broken


@cause(
    GROUP,
    "the server ends its side at once and goes on reading (half-close)",
    right("upstream", "closed_before_headers", unsure=BETWEEN),
)
def half_close(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        connection.socket.shutdown(socket.SHUT_WR)
        connection.wait_gone()

    yield from _breaking(bed, variant, fault)
