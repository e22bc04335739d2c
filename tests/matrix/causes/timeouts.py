# SPDX-License-Identifier: Apache-2.0
"""What is too slow?"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.bed import LONG, SHORT, TIMEOUT_MS, Bed, hangs, sends
from tests.matrix.case import ALL, BOTH_SCHEMES, FRESH, PLAIN, TLS_FRESH, Broken, Variant, cause, right
from tests.support.origin import Connection, Received

GROUP = "timeouts"
# Silence is the same from a server that is stuck and from a network that lost it.
SILENT = "network second_lb"


@cause(
    GROUP,
    "no first byte within read_timeout",
    right("upstream", "read_timeout", "read_timeout", unsure=SILENT),
    ALL,
    is_fast=True,
)
def first_byte(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", hangs), method="POST", body=b"x", service=SHORT) as broken:
        yield broken


@cause(GROUP, "the header stops half-way", right("upstream", "read_timeout", "read_timeout", unsure=SILENT), PLAIN)
def half_a_header(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = b"HTTP/1.1 200 OK\r\nContent-"
    with bed.faulty(variant, sends(data, hangs), method="POST", body=b"x", service=SHORT) as broken:
        yield broken


@cause(
    GROUP,
    "the body stops half-way (between two bytes)",
    right("upstream", "read_timeout_in_body", "read_timeout", unsure=SILENT),
    ALL,
    is_fast=True,
)
def between_bytes(bed: Bed, variant: Variant) -> Iterator[Broken]:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789"
    with bed.faulty(variant, sends(data, hangs), service=SHORT) as broken:
        yield broken


@cause(
    GROUP,
    "the server does not take the body (write_timeout)",
    right("upstream", "write_timeout", "write_timeout", unsure=SILENT),
    ALL,
    is_fast=True,
)
def body_not_taken(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def fault(connection: Connection, received: Received) -> None:
        connection.pause(TIMEOUT_MS / 1000 * 4)

    with bed.faulty(variant, fault, method="POST", body=b"x" * (12 << 20), service=SHORT) as broken:
        yield broken


@cause(
    GROUP,
    "the server takes the body, and works on it for longer than read_timeout",
    right("upstream", "read_timeout", "read_timeout", unsure=SILENT),
    BOTH_SCHEMES,
)
def slow_after_upload(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", hangs), method="POST", body=b"x" * (1 << 20), service=SHORT) as broken:
        yield broken


@cause(
    GROUP,
    "each of three attempts runs into read_timeout",
    right("upstream", "read_timeout", "read_timeout", unsure=SILENT),
    (FRESH, TLS_FRESH),
)
def every_attempt(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", hangs), service={**SHORT, "retries": 2}) as broken:
        yield broken


@cause(
    GROUP,
    "the client gives up before the upstream answers",
    # Who waited long enough is for people to say: the server was slow, too.
    right("client", "client_gone", unsure="first_lb upstream"),
    (FRESH, TLS_FRESH),
    is_fast=True,
    is_stock=True,
)
def at_the_client(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", hangs), service=LONG, leaves=True) as broken:
        yield broken
