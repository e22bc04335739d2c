# SPDX-License-Identifier: Apache-2.0
"""How do kept connections fail?"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from tests.matrix.bed import OK, Bed, fin, rst, sends
from tests.matrix.case import BOTH_REUSED, REUSED, Broken, Variant, cause, right
from tests.support.origin import Connection, good

GROUP = "keep-alive"
BETWEEN = "network second_lb"


@cause(
    GROUP,
    "the server closes the idle connection just as we use it",
    right(
        "upstream",
        "closed_before_headers",
        "idle|keep",
        "upstream_keepalive_idle_timeout",
        unsure=BETWEEN,
        findings="closed_at_reuse",
    ),
    BOTH_REUSED,
    is_fast=True,
)
def closed_at_reuse(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", fin), method="POST", body=b"once") as broken:
        yield broken


@cause(
    GROUP,
    "the server resets the idle connection just as we use it",
    right("upstream", "reset write_failed", "idle|keep", unsure=BETWEEN),
    BOTH_REUSED,
    is_fast=True,
)
def reset_at_reuse(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.faulty(variant, sends(b"", rst), method="POST", body=b"once") as broken:
        yield broken


@cause(
    GROUP,
    "closed at reuse, and the request saved by another connection",
    right("upstream", "closed_before_headers", "idle|keep", unsure=BETWEEN),
    BOTH_REUSED,
    is_fast=True,
    is_stock=False,
)
def saved_at_reuse(bed: Bed, variant: Variant) -> Iterator[Broken]:
    armed = threading.Event()

    def serve(connection: Connection) -> None:
        while True:
            connection.read_body(connection.read_head())
            if armed.is_set() and connection.number == 1:
                connection.close()
                return
            connection.send(OK)

    with bed.behind(serve, bed.context(variant)) as origin:
        yield Broken(origin.url, armed=armed)
        assert origin.connections == 2


@cause(
    GROUP,
    "the server closes after so many requests, without a word",
    right("upstream", "closed_before_headers", "requests", unsure=BETWEEN),
    (REUSED,),
    is_stock=False,
)
def closed_after_requests(bed: Bed, variant: Variant) -> Iterator[Broken]:
    def serve(connection: Connection) -> None:
        for _ in range(3):
            connection.read_body(connection.read_head())
            connection.send(OK)
        connection.read_body(connection.read_head())
        connection.close()

    with bed.behind(serve) as origin:
        path = bed.blueprints.path(origin.url, retries=0)
        assert [bed.gateway.get(path + "/ok").status for _ in range(2)] == [200, 200]
        yield Broken(path=path, method="POST", body=b"once")
        assert origin.connections == 1


@cause(
    GROUP,
    "the server was stopped: its kept connections are gone, and nothing listens",
    right("upstream", "connect_refused", unsure="network second_lb gateway dns"),
    is_stock=False,
    is_fast=True,
)
def stopped(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        path = bed.blueprints.path(origin.url, retries=0)
        assert bed.gateway.get(path).status == 200
    yield Broken(path=path)
