# SPDX-License-Identifier: Apache-2.0
"""Is each name server asked by itself, and is it told what they say of a name?"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dnslib import CNAME  # type: ignore[import-untyped]  # it has no types

from pylae.doctor import naming
from pylae.doctor.findings import Finding
from pylae.doctor.links import Place
from pylae.doctor.names import Known, look_up
from pylae.doctor.resolution import Resolution, read_hosts, read_resolv_conf, server_of
from tests.doctor.probing import aim_at, only
from tests.support.ports import free_port
from tests.support.servers.dns import NameServer, record

PATIENCE_S = 0.5


@pytest.fixture(scope="module")
def other() -> Iterator[NameServer]:
    """A second name server."""
    server = NameServer()
    yield server
    server.stop()


def by(*servers: NameServer | int, **fields: object) -> Resolution:
    """Look-ups with these servers."""
    places = [Place("127.0.0.1", one if isinstance(one, int) else one.port) for one in servers]
    return replace(Resolution(places, "dns_resolver", ("A",)), **fields)  # type: ignore[arg-type]  # the fields are a test's


def known(host: str, resolution: Resolution) -> Known:
    """What is known of a host."""
    return asyncio.run(look_up(host, resolution, PATIENCE_S))


def findings(host: str, resolution: Resolution) -> list[Finding]:
    """What is wrong with it."""
    return naming.judge(known(host, resolution), aim_at(80), resolution)


def test_a_name_that_all_know_is_well(names: NameServer, other: NameServer) -> None:
    for server in (names, other):
        server.set_a("well.test", "10.0.0.1", "10.0.0.2")
    resolution = by(names, other)
    found = known("well.test", resolution)
    assert [one.ip for one in found.found] == ["10.0.0.1", "10.0.0.2"]
    assert naming.judge(found, aim_at(80), resolution) == []
    assert naming.told(found) == "well.test: 10.0.0.1, 10.0.0.2 (2 name servers asked)"
    assert names.count("well.test") == other.count("well.test") == 1


def test_addresses_and_names_of_the_hosts_file_are_not_asked_for(names: NameServer) -> None:
    resolution = by(names, hosts=read_hosts("10.0.0.9 Own.Test own # a comment\n::1 own\nnonsense own\n"))
    assert known("own.test", resolution).found[0].ip == "10.0.0.9"
    assert known("[::1]", resolution).source == "literal"
    assert not {"own.test", "own"} & set(names.questions)


def test_a_name_that_does_not_exist(names: NameServer) -> None:
    finding = only(findings("nowhere.test", by(names)))
    assert (finding.cause, finding.finding, finding.hop) == ("dns_failed", "no_such_name", "dns")
    assert finding.confidence >= 0.8
    assert finding.document()["status"] == 503
    assert "curl -X PATCH http://localhost:8001/services/orders --data host=HOST" in finding.cure


def test_a_name_without_an_address(names: NameServer) -> None:
    names.records["bare.test"] = []
    assert only(findings("bare.test", by(names))).finding == "no_address"


def test_a_server_that_fails_and_one_that_is_silent(names: NameServer, other: NameServer) -> None:
    names.failing.add("ill.test")
    other.silent.add("ill.test")
    finding = only(findings("ill.test", by(names, other)))
    assert (finding.cause, finding.finding, finding.is_broken) == ("resolver_failed", "server_failure", True)
    assert "SERVFAIL" in finding.evidence[0]
    assert "does not answer" in finding.evidence[1]


def test_a_server_that_is_silent_beside_one_that_answers_is_a_warning(names: NameServer, other: NameServer) -> None:
    names.silent.add("half.test")
    other.set_a("half.test", "10.0.0.1")
    finding = only(findings("half.test", by(names, other)))
    assert (finding.finding, finding.is_broken) == ("name_server_silent", False)


def test_a_port_where_no_server_is(other: NameServer) -> None:
    other.set_a("alone.test", "10.0.0.1")
    finding = only(findings("alone.test", by(free_port(), other)))
    assert finding.finding in ("name_server_down", "name_server_silent")


def test_servers_that_disagree_break_requests_where_the_first_knows_nothing(names: NameServer, other: NameServer) -> None:
    other.set_a("split.test", "10.0.0.1")
    finding = only(findings("split.test", by(names, other)))
    assert (finding.cause, finding.finding, finding.is_broken) == ("dns_failed", "resolvers_disagree", True)
    finding = only(findings("split.test", by(other, names)))
    assert (finding.finding, finding.is_broken) == ("resolvers_disagree", False)


def test_search_domains_are_tried_in_their_order(names: NameServer) -> None:
    names.set_a("db.inner.test", "10.0.0.7")
    resolution = by(names, search=("inner.test",))
    assert known("db", resolution).found[0].ip == "10.0.0.7"
    assert names.questions[-1] == "db.inner.test"


def test_srv_records_give_ports(names: NameServer) -> None:
    names.set_srv("_http._tcp.shop.test", (10, 5, 8081, "one.test"), (10, 5, 8082, "two.test"), (20, 5, 1, "later.test"))
    names.set_a("one.test", "10.0.0.1")
    names.set_a("two.test", "10.0.0.2")
    found = known("_http._tcp.shop.test", by(names, types=("SRV", "A"))).found
    assert {(one.ip, one.port) for one in found} == {("10.0.0.1", 8081), ("10.0.0.2", 8082)}


def test_a_chain_of_names_is_followed(names: NameServer) -> None:
    names.set_cname("alias.test", "real.test")
    names.set_a("real.test", "10.0.0.3")
    assert known("alias.test", by(names)).found[0].ip == "10.0.0.3"


def test_a_name_server_that_sends_one_from_name_to_name_for_ever_is_left(names: NameServer) -> None:
    numbers = itertools.count()

    def onwards(reply: Any) -> Any:
        target = f"n{next(numbers)}.test"
        names.changes[target] = onwards
        reply.header.rcode = 0
        reply.add_answer(record(str(reply.q.qname), CNAME(target)))
        return reply

    names.changes["chain.test"] = onwards
    assert only(findings("chain.test", by(names))).cause == "dns_failed"
    assert next(numbers) < 20


def test_a_name_server_that_answers_garbage_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            for reply in (b"", b"\0" * 3, b"\xc0\x0c" * 300):
                query, peer = server.recvfrom(4096)
                server.sendto(query[:2] + reply, peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for _ in range(3):
            finding = only(findings("garbage.test", by(server.getsockname()[1])))
            assert finding.cause == "resolver_failed"
        thread.join(5)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "é.test", "-", "a b.test", "x" * 300])
def test_what_is_no_name_is_told_and_not_asked_for(names: NameServer, host: str) -> None:
    assert only(findings(host, by(names))).cause == "dns_failed"


def test_resolv_conf_is_read_as_workers_read_it() -> None:
    text = "; comment\nnameserver 10.0.0.1\nnameserver bad\nnameserver ::1\nsearch a.test b.test\noptions ndots:3 rotate\n"
    assert read_resolv_conf(text) == ([Place("10.0.0.1", 53), Place("::1", 53)], ["a.test", "b.test"], 3)
    assert server_of("10.0.0.1:5353") == Place("10.0.0.1", 5353)
    assert server_of("[::1]:5353") == Place("::1", 5353)
    assert server_of("name.test") is None
