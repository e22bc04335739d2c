# SPDX-License-Identifier: Apache-2.0
"""How does the network between the gateway and an upstream fail?"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.bed import OK, SHORT, Bed, hangs, sends
from tests.matrix.case import BOTH_REUSED, BOTH_SCHEMES, FRESH, Broken, Switch, Variant, cause, right
from tests.support.origin import Connection, FullBacklog, Received
from tests.support.ports import free_port

GROUP = "network"
# What a firewall or a router does to packets between us and a server looks as if the server did it.
SERVER = "upstream second_lb"
BEYOND = "network dns second_lb gateway"


@cause(
    GROUP,
    "nothing listens on the port",
    right("upstream", "connect_refused", "listen|refused", unsure=BEYOND),
    BOTH_SCHEMES,
    is_fast=True,
)
def refused(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield Broken(f"{variant.scheme}://127.0.0.1:{free_port()}/")


def _ruled(bed: Bed, variant: Variant, rule: str, *outgoing: str, **broken: object) -> Iterator[Broken]:
    """An origin behind a network that treats packets to (`PORT`) and from it so."""
    network = bed.network
    fields = {"service": SHORT, **broken}
    with bed.faulty(variant, sends(OK, hangs), listener=network.listen(), **fields) as made:
        port = made.url.rsplit(":", 1)[1].rstrip("/")
        network.rules(
            *([rule.replace("PORT", port)] if rule else []), outgoing=tuple(one.replace("PORT", port) for one in outgoing)
        )
        try:
            yield made
        finally:
            network.rules()


class _Mending:
    """Passes on who arms and disarms, and lets all packets pass again with the latter."""

    def __init__(self, bed: Bed, armed: Switch | None) -> None:
        assert armed
        self._bed, self._armed = bed, armed

    def set(self) -> None:
        """From now on it is broken."""
        self._armed.set()

    def clear(self) -> None:
        """From now on it is good."""
        self._bed.network.rules()
        self._armed.clear()


@cause(
    GROUP,
    "a firewall refuses the connection with a reset",
    right("network", "connect_refused", unsure=SERVER),
    BOTH_SCHEMES,
    needs_network=True,
)
def rejected_with_reset(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT reject with tcp reset")


@cause(
    GROUP,
    "a firewall refuses the connection with ICMP port unreachable",
    right("network", "connect_refused", unsure=SERVER),
    needs_network=True,
)
def port_unreachable(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT reject with icmp type port-unreachable")


@cause(
    GROUP,
    "no way to the host (ICMP host unreachable)",
    right("network", "connect_failed", "route|reach", unsure=SERVER),
    BOTH_SCHEMES,
    needs_network=True,
)
def host_unreachable(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT reject with icmp type host-unreachable")


@cause(
    GROUP,
    "a firewall forbids the connection (ICMP admin prohibited)",
    right("network", "connect_failed", "firewall", unsure=SERVER),
    needs_network=True,
)
def prohibited(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT reject with icmp type admin-prohibited")


@cause(
    GROUP,
    "a firewall drops the packets (DROP)",
    right("network", "connect_timeout", "drop|firewall|filter", unsure="upstream second_lb dns"),
    BOTH_SCHEMES,
    needs_network=True,
)
def dropped(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT drop")


@cause(
    GROUP,
    "the server's accept queue is full",
    right("upstream", "connect_timeout", "queue|busy|overload", unsure="network second_lb dns"),
    BOTH_SCHEMES,
    is_fast=True,
)
def accept_queue_full(bed: Bed, variant: Variant) -> Iterator[Broken]:
    full = FullBacklog()
    try:
        yield Broken(f"{variant.scheme}://127.0.0.1:{full.port}/", service=SHORT)
    finally:
        full.stop()


@cause(
    GROUP,
    "half-open: the connection is made and nothing passes after it",
    # Over TLS the hello is lost first, within connect_timeout.
    right("network", "read_timeout connect_timeout upstream_tls_failed", unsure=SERVER),
    BOTH_SCHEMES,
    needs_network=True,
)
def half_open(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT ct state established drop")


@cause(
    GROUP,
    "half-open in the middle of a large body",
    right("network", "write_timeout", unsure=SERVER),
    needs_network=True,
)
def half_open_upload(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT ct state established drop", method="POST", body=b"x" * (8 << 20))


@cause(
    GROUP,
    "a firewall resets the connection at the first data",
    right("network", "reset upstream_tls_failed", unsure=SERVER),
    BOTH_SCHEMES,
    needs_network=True,
)
def reset_at_first_data(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _ruled(bed, variant, "tcp dport PORT tcp flags & psh == psh reject with tcp reset")


@cause(
    GROUP,
    "the answer stops half-way: nothing passes any more",
    right("network", "read_timeout_in_body", unsure=SERVER),
    needs_network=True,
)
def lost_half_way(bed: Bed, variant: Variant) -> Iterator[Broken]:
    network = bed.network

    def fault(connection: Connection, received: Received) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        port = connection.origin.port
        network.rules(f"tcp dport {port} drop", outgoing=(f"tcp sport {port} drop",))
        connection.send(b"rest")
        hangs(connection)

    try:
        with bed.faulty(variant, fault, listener=network.listen(), service=SHORT) as broken:
            broken.armed = _Mending(bed, broken.armed)
            yield broken
    finally:
        network.rules()


@cause(
    GROUP,
    "large packets are lost (a black hole for MTU): small requests pass, answers don't",
    right("network", "read_timeout", unsure=SERVER),
    needs_network=True,
)
def large_packets_lost(bed: Bed, variant: Variant) -> Iterator[Broken]:
    network = bed.network
    big = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"a" * 1200 + b"\r\nContent-Length: 2\r\n\r\nok"
    with bed.faulty(variant, sends(big, hangs), listener=network.listen(), service=SHORT) as broken:
        port = broken.url.rsplit(":", 1)[1].rstrip("/")
        network.rules(outgoing=(f"tcp sport {port} meta length > 600 drop",))
        try:
            yield broken
        finally:
            network.rules()


@cause(
    GROUP,
    "packet loss: the first packets of a connection are lost, and sent again too late",
    right("network", "connect_timeout", unsure="upstream second_lb dns"),
    needs_network=True,
)
def packet_loss(bed: Bed, variant: Variant) -> Iterator[Broken]:
    # Of SYNs one in a hundred passes: the kernel sends the second a second after the first.
    yield from _ruled(bed, variant, "tcp dport PORT tcp flags syn numgen inc mod 100 < 99 drop")


@cause(
    GROUP,
    "packet loss: the answer's packets are lost",
    # The acknowledgement of the request travels with the answer: on a pooled connection nothing arrives any more.
    right("network", "read_timeout connection_dead", unsure=SERVER),
    (FRESH, *BOTH_REUSED),
    needs_network=True,
)
def answer_lost(bed: Bed, variant: Variant) -> Iterator[Broken]:
    network = bed.network

    def fault(connection: Connection, received: Received) -> None:
        network.rules(outgoing=(f"tcp sport {connection.origin.port} tcp flags & psh == psh drop",))
        connection.send(OK)
        hangs(connection)

    method = "POST" if variant.reused else "GET"
    try:
        with bed.faulty(variant, fault, listener=network.listen(), service=SHORT, method=method) as broken:
            broken.armed = _Mending(bed, broken.armed)
            yield broken
    finally:
        network.rules()


@cause(
    GROUP,
    "a firewall forgets idle connections silently: nothing on the pooled one arrives",
    right("network", "connection_dead", "firewall|NAT", unsure=SERVER),
    BOTH_REUSED,
    is_stock=False,
    needs_network=True,
)
def forgotten(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _forgotten(bed, variant, "drop")


@cause(
    GROUP,
    "a firewall forgets idle connections and answers with a reset",
    right("network", "reset write_failed", unsure=SERVER),
    BOTH_REUSED,
    is_stock=False,
    needs_network=True,
)
def forgotten_with_reset(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield from _forgotten(bed, variant, "reject with tcp reset")


def _forgotten(bed: Bed, variant: Variant, treatment: str) -> Iterator[Broken]:
    """The rule takes effect once the good request has made the connection."""
    network = bed.network
    links: list[int] = []

    class Rules:
        """Stands in the place of the event that arms."""

        def set(self) -> None:
            ports = ", ".join(map(str, links))
            # Either way: what the server sends again is lost, too.
            outgoing = (f"tcp dport {{ {ports} }} drop",) if treatment == "drop" else ()
            network.rules(f"tcp sport {{ {ports} }} {treatment}", outgoing=outgoing)

        def clear(self) -> None:
            network.rules()

    def serve(connection: Connection) -> None:
        links.append(connection.socket.getpeername()[1])
        while True:
            connection.read_body(connection.read_head())
            connection.send(OK)

    with bed.behind(serve, bed.context(variant), listener=network.listen()) as origin:
        try:
            yield Broken(origin.url, method="POST", body=b"once", service=SHORT, armed=Rules())
        finally:
            network.rules()
