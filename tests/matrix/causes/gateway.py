# SPDX-License-Identifier: Apache-2.0
"""Which faults lie in the gateway's own configuration and limits?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.matrix.bed import OK, PATIENCE_S, Bed
from tests.matrix.case import Broken, Variant, cause, right
from tests.support.blueprints import unique
from tests.support.origin import Connection, Origin, early_close, good
from tests.support.ports import free_port
from tests.support.raw import request
from tests.support.wait import until

GROUP = "gateway"
# A request and a Route that don't meet: either may be what has to change.
EITHER = "client gateway"


@cause(GROUP, "no Route has the path", right(EITHER, "no_route", "path"), is_fast=True, is_stock=False)
def no_route(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield Broken(path=f"/{unique('nowhere')}")


def _route(bed: Bed, origin: Origin, **fields: Any) -> str:
    """The path of a Route with these conditions."""
    path = f"/{unique('conditions')}"
    bed.blueprints.route(bed.blueprints.service(origin), paths=[path], **fields)
    bed.gateway.settle()
    return path


@cause(GROUP, "a Route has the path, but not the method", right(EITHER, "no_route", "method"), is_fast=True, is_stock=False)
def wrong_method(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=_route(bed, origin, methods=["POST"]))


@cause(GROUP, "a Route has the path, but not the host", right(EITHER, "no_route", "host"), is_fast=True, is_stock=False)
def wrong_host(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=_route(bed, origin, hosts=["shop.matrix.test"]))


@cause(GROUP, "a Route has the path, but wants a header", right(EITHER, "no_route", "header"), is_stock=False)
def wrong_header(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=_route(bed, origin, headers={"X-Version": ["2"]}))


@cause(GROUP, "the Route is for https alone (426)", right(EITHER, "https_required", "https"), is_fast=True, is_stock=False)
def https_required(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=_route(bed, origin, protocols=["https"]))


@cause(GROUP, "the Route has no Service", right("gateway", "no_service", "Service"), is_fast=True, is_stock=False)
def no_service(bed: Bed, variant: Variant) -> Iterator[Broken]:
    path = bed.blueprints.route(None)["paths"][0]
    bed.gateway.settle()
    yield Broken(path=path)


@cause(
    GROUP,
    "the Upstream has no Target",
    right("gateway", "no_healthy_target", "Target", unsure="upstream"),
    is_fast=True,
    is_stock=False,
)
def no_target(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield Broken(f"http://{bed.blueprints.upstream()['name']}/")


@cause(
    GROUP,
    "the Upstream's only Target is drained (weight 0)",
    right("gateway", "no_healthy_target", "weight", unsure="upstream"),
    is_fast=True,
    is_stock=False,
)
def target_drained(bed: Bed, variant: Variant) -> Iterator[Broken]:
    upstream = bed.blueprints.upstream()
    bed.gateway.admin.post(f"/upstreams/{upstream['id']}/targets", {"target": f"127.0.0.1:{free_port()}", "weight": 0})
    yield Broken(f"http://{upstream['name']}/")


@cause(
    GROUP,
    "all Targets are unhealthy: requests to them failed",
    right("upstream", "no_healthy_target", "health", unsure="gateway"),
    is_fast=True,
    is_stock=False,
)
def all_unhealthy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    checks = {"passive": {"unhealthy": {"tcp_failures": 1}, "healthy": {"successes": 0}}}
    upstream = bed.blueprints.upstream(f"127.0.0.1:{free_port()}", healthchecks=checks)
    path = bed.blueprints.path(f"http://{upstream['name']}/", retries=0)
    assert bed.gateway.get(path).status == 502
    until(lambda: bed.gateway.get(path).status == 503, "the Target to turn")
    yield Broken(path=path)


@cause(
    GROUP,
    "all Targets are unhealthy: an administrator said so",
    right("gateway upstream", "no_healthy_target", "health"),
    is_stock=False,
)
def marked_unhealthy(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        target = f"127.0.0.1:{origin.port}"
        checks = {"passive": {"unhealthy": {"tcp_failures": 1}, "healthy": {"successes": 0}}}
        upstream = bed.blueprints.upstream(target, healthchecks=checks)
        path = bed.blueprints.path(f"http://{upstream['name']}/", retries=0)
        assert bed.gateway.get(path).status == 200
        bed.gateway.admin.call("PUT", f"/upstreams/{upstream['id']}/targets/{target}/{target}/unhealthy")
        bed.gateway.admin.call("PUT", f"/upstreams/{upstream['id']}/targets/{target}/unhealthy")
        until(lambda: bed.gateway.get(path).status == 503, "the Target to turn")
        yield Broken(path=path)


@cause(
    GROUP,
    "the body is larger than the gateway takes (413)",
    right(EITHER, "request_body_too_large", "nginx_http_client_max_body_size|client_max_body_size"),
    is_fast=True,
    is_stock=False,
)
def body_too_large(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        path = bed.blueprints.path(origin)
        yield Broken(path=path, method="POST", data=lambda path: request("POST", path, "Content-Length: 99999999"))


@cause(
    GROUP,
    "a header of the request is larger than the gateway takes (494)",
    right(EITHER, "request_header_too_large", "Cookie", "large_client_header_buffers"),
    is_fast=True,
    is_stock=False,
)
def header_too_large(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=bed.blueprints.path(origin), lines=("Cookie: session=" + "a" * 9_000,))


@cause(
    GROUP,
    "the URI is longer than the gateway takes (414)",
    right(EITHER, "uri_too_long", "large_client_header_buffers"),
    is_fast=True,
    is_stock=False,
)
def uri_too_long(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(good) as origin:
        yield Broken(path=bed.blueprints.path(origin), suffix="?q=" + "a" * 9_000)


# === what the plugin resilience bounds ===


@contextmanager
def _busy(bed: Bed, waiting: int, **queue: Any) -> Iterator[Broken]:
    """A host that is given one request at a time, and works on one; so many wait."""
    finish = threading.Event()

    def serve(connection: Connection) -> None:
        connection.read_head()
        assert finish.wait(PATIENCE_S)
        connection.send(OK)

    with ExitStack() as stack:
        origin = stack.enter_context(bed.behind(serve))
        stack.callback(finish.set)
        service = bed.blueprints.service(origin)
        path = bed.blueprints.route(service)["paths"][0]
        bed.blueprints.plugin("resilience", service, "service", queue={"most_connections": 1, **queue})
        bed.gateway.settle()
        stack.enter_context(bed.gateway.connect()).send(request("GET", path + "/first"))
        origin.wait_requests(1)
        for number in range(waiting):
            stack.enter_context(bed.gateway.connect()).send(request("GET", f"{path}/waiting-{number}"))
        yield Broken(path=path)


@cause(
    GROUP,
    "the pool is exhausted, and nobody may wait more (queue full)",
    # The upstream is slow, and the limit is the gateway's.
    right("gateway upstream", "queue_full", "queue.most_waiting"),
    is_stock=False,
)
def queue_full(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _busy(bed, 1, most_waiting=1, deadline_ms=8_000) as broken:

        def is_full() -> bool:
            return bed.gateway.get(broken.path + "/probe").status == 503

        until(is_full, "the queue to be full")
        yield broken


@cause(
    GROUP,
    "the pool is exhausted, and none is free in time",
    right("gateway upstream", "queue_timeout", "queue.deadline_ms"),
    is_fast=True,
    is_stock=False,
)
def queue_timeout(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with _busy(bed, 0, deadline_ms=100) as broken:
        yield broken


@cause(
    GROUP,
    "the circuit is open: the upstream failed before",
    right("upstream", "circuit_open", "circuit", unsure="gateway"),
    is_fast=True,
    is_stock=False,
)
def circuit_open(bed: Bed, variant: Variant) -> Iterator[Broken]:
    with bed.behind(early_close) as origin:
        service = bed.blueprints.service(origin, retries=0)
        path = bed.blueprints.route(service)["paths"][0]
        bed.blueprints.plugin("resilience", service, "service", circuit_breaker={"failures": 1, "open_s": 60})
        bed.gateway.settle()
        assert bed.gateway.get(path).status == 502
        until(lambda: bed.gateway.get(path).status == 503, "the circuit to open")
        yield Broken(path=path)
