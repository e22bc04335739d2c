# SPDX-License-Identifier: Apache-2.0
"""What do clients do wrong?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.matrix.bed import LONG, Bed, when_asked
from tests.matrix.case import Broken, Variant, cause, right
from tests.support.origin import Connection, good
from tests.support.raw import request

GROUP = "client"


def _sending(bed: Bed, data: Callable[[str], bytes]) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=bed.blueprints.path(origin), data=data)


@cause(
    GROUP,
    "Content-Length and Transfer-Encoding together",
    right("client", "bad_framing", unsure="first_lb"),
    is_fast=True,
    is_stock=False,
)
def request_length_and_chunked(bed: Bed, variant: Variant) -> Iterator[Broken]:
    lines = ("Content-Length: 3", "Transfer-Encoding: chunked")
    yield from _sending(bed, lambda path: request("POST", path, *lines) + b"0\r\n\r\n")


@cause(GROUP, "two Content-Length that differ", right("client", "bad_framing", unsure="first_lb"), is_fast=True, is_stock=False)
def request_duplicate_length(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("POST", path, "Content-Length: 1", "Content-Length: 2") + b"ab")


@cause(GROUP, "no Host", right("client", "bad_framing", "Host", unsure="first_lb"), is_fast=True, is_stock=False)
def request_without_host(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("GET", path, host=None))


@cause(GROUP, "a header name with a blank", right("client", "bad_framing", unsure="first_lb"), is_stock=False)
def request_bad_header(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("GET", path, "Bad Name: x"))


@cause(
    GROUP,
    "a chunk size that is no number",
    right("client", "bad_request_body", "chunk", unsure="first_lb"),
    is_fast=True,
    is_stock=False,
)
def request_bad_chunk(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("POST", path, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n")


@cause(GROUP, "TRACE", right("client", "method_not_allowed", "TRACE", unsure="first_lb"), is_stock=False)
def request_trace(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("TRACE", path))


@cause(GROUP, "a version of HTTP that is not served", right("client", "version_not_supported", unsure="first_lb"), is_stock=False)
def request_version(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("GET", path, version="2.0"))


@cause(
    GROUP,
    "a transfer coding that is not served",
    right("client", "transfer_encoding_not_supported", unsure="first_lb"),
    is_stock=False,
)
def request_coding(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("POST", path, "Transfer-Encoding: gzip") + b"x")


@cause(
    GROUP,
    "half a header, then silence",
    right("client", "request_timeout", unsure="first_lb network"),
    is_fast=True,
    is_stock=False,
)
def request_head_stops(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("GET", path)[:-4])


@cause(GROUP, "half a body, then silence", right("client", "request_timeout", unsure="first_lb network"), is_stock=False)
def request_body_stops(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _sending(bed, lambda path: request("POST", path, "Content-Length: 100") + b"half")


@cause(
    GROUP,
    "the client leaves in the middle of its body",
    right("client", "client_gone", unsure="first_lb network"),
    is_fast=True,
    is_stock=False,
)
def leaves_in_upload(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(
            path=bed.blueprints.path(origin),
            data=lambda path: request("POST", path, "Content-Length: 100") + b"half",
            leave_after=lambda: None,
        )


@cause(
    GROUP,
    "the client leaves in the middle of a long answer",
    right("client", "client_gone", unsure="first_lb network"),
    is_fast=True,
    is_stock=False,
)
def leaves_in_download(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.send(b"x" * 65_536)

    with bed.behind(serve) as origin:
        yield Broken(origin.url, service=LONG, leave_after=when_asked(origin))
