# SPDX-License-Identifier: Apache-2.0
"""By which rules does a name become an address? Kong's older client, the default one, against a name server under control."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dnslib import CNAME, SRV, A, DNSRecord  # type: ignore[import-untyped]  # it has no types

from tests.support import raw
from tests.support.blueprints import Blueprints
from tests.support.gateway import Gateway
from tests.support.origin import Origin, good
from tests.support.servers.dns import NAME_ERROR, REFUSED, SERVER_FAILURE, NameServer, record
from tests.support.servers.dnsmasq import Dnsmasq
from tests.support.wait import holds_for, until

NOT_FOUND_TTL_S = 1.5
ERROR_TTL_S = 0.5
HOSTS = "127.0.0.1 hosted.test Mixed.Test\n::1 hosted.test\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dns")
    (folder / "hosts").write_text(HOSTS)
    (folder / "resolv.conf").write_text("search one.test two.test\noptions ndots:2 timeout:1 attempts:2\n")
    return folder


@pytest.fixture(scope="module")
def gateway(names: NameServer, files: Path) -> Iterator[Gateway]:
    settings: dict[str, str | int] = {
        "dns_resolver": names.address,
        "dns_hostsfile": str(files / "hosts"),
        "dns_resolv_conf": str(files / "resolv.conf"),
        "dns_not_found_ttl": str(NOT_FOUND_TTL_S),
        "dns_error_ttl": str(ERROR_TTL_S),
        "log_level": "debug",
    }
    with Gateway(settings) as started:
        yield started


@pytest.fixture
def other() -> Iterator[Origin]:
    """An origin beside `echo`, on a port of its own."""
    with Origin(good) as started:
        yield started


class Pair:
    """Two origins with one port: one at 127.0.0.1, one at 127.0.0.2."""

    def __init__(self) -> None:
        self.first = Origin(good)
        self.port = self.first.port
        self.second = Origin(good, listener=socket.create_server(("127.0.0.2", self.port)))

    def counts(self) -> tuple[int, int]:
        return len(self.first.requests), len(self.second.requests)


@pytest.fixture
def pair() -> Iterator[Pair]:
    started = Pair()
    yield started
    started.first.stop()
    started.second.stop()


# === the order of types ===


def test_srv_is_asked_for_before_a_and_cname(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    assert gateway.get(blueprints.path("http://order.none.test./")).status == 503
    assert names.types("order.none.test") == ["SRV", "A", "CNAME"]


def test_order_last_begins_with_the_type_that_succeeded_last(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("last.old.test", "127.0.0.1", ttl_s=0)
    path = blueprints.path(f"http://last.old.test:{echo.port}/")
    assert gateway.get(path).status == 200
    assert names.types("last.old.test") == ["SRV", "A"]
    assert gateway.get(path).status == 200
    assert names.types("last.old.test") == ["SRV", "A", "A"]


def test_a_cname_is_followed(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_cname("alias.old.test", "real.old.test")
    names.set_a("real.old.test", "127.0.0.1")
    assert gateway.get(blueprints.path(f"http://alias.old.test:{echo.port}/")).status == 200
    assert echo.last.header("Host") == f"alias.old.test:{echo.port}"


def test_a_cname_chain_in_one_answer_is_followed(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.records["chain.old.test"] = [
        record("chain.old.test", CNAME("middle.old.test")),
        record("middle.old.test", CNAME("end.old.test")),
        record("end.old.test", A("127.0.0.1")),
    ]
    assert gateway.get(blueprints.path(f"http://chain.old.test:{echo.port}/")).status == 200
    assert names.count("end.old.test", "A") == 0


def test_cname_records_that_lead_round_end(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    names.set_cname("round.old.test", "about.old.test")
    names.set_cname("about.old.test", "round.old.test")
    assert gateway.get(blueprints.path("http://round.old.test./")).status == 503
    assert len(names.types("round.old.test")) + len(names.types("about.old.test")) < 70


# === SRV ===


def test_srv_port_overrides(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_srv("service.old.test", (1, 1, echo.port, "a.service.old.test"))
    names.set_a("a.service.old.test", "127.0.0.1")
    assert gateway.get(blueprints.path("http://service.old.test:9/")).status == 200


def test_srv_targets_sent_along_are_not_asked_for(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_srv("along.old.test", (1, 1, echo.port, "a.along.old.test"))
    names.additional["along.old.test"] = [record("a.along.old.test", A("127.0.0.1"))]
    assert gateway.get(blueprints.path("http://along.old.test/")).status == 200
    assert names.count("a.along.old.test") == 0


def test_srv_of_the_top_priority_alone_is_used(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin, other: Origin
) -> None:
    names.set_srv("top.old.test", (2, 60000, other.port, "a.top.old.test"), (1, 0, echo.port, "a.top.old.test"))
    names.set_a("a.top.old.test", "127.0.0.1")
    path = blueprints.path("http://top.old.test/")
    assert {gateway.get(path).status for _ in range(10)} == {200}
    assert len(echo.requests) == 10


def test_srv_weights_share_requests_and_0_counts_as_1(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin, other: Origin
) -> None:
    names.set_srv("weights.old.test", (1, 0, other.port, "a.weights.old.test"), (1, 3, echo.port, "a.weights.old.test"))
    names.set_a("a.weights.old.test", "127.0.0.1")
    path = blueprints.path("http://weights.old.test/")
    for _ in range(40):
        assert gateway.get(path).status == 200
    assert 28 <= len(echo.requests) <= 32
    assert 8 <= len(other.requests) <= 12


def test_an_srv_record_that_names_itself_ends(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_srv("self.old.test", (1, 1, echo.port, "self.old.test"))
    assert gateway.get(blueprints.path("http://self.old.test./")).status == 503
    assert len(names.types("self.old.test")) < 10


def test_srv_records_that_name_the_name_itself_give_way_to_its_addresses(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin, other: Origin
) -> None:
    names.records["itself.old.test"] = [
        record("itself.old.test", SRV(1, 1, other.port, "itself.old.test")),
        record("itself.old.test", A("127.0.0.1")),
    ]
    assert gateway.get(blueprints.path(f"http://itself.old.test:{echo.port}/")).status == 200
    assert (len(echo.requests), len(other.requests)) == (1, 0)


def test_an_srv_record_with_port_0_leaves_the_port_as_it_is(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_srv("portless.old.test", (1, 1, 0, "a.portless.old.test"))
    names.set_a("a.portless.old.test", "127.0.0.1")
    assert gateway.get(blueprints.path(f"http://portless.old.test:{echo.port}/")).status == 200


def test_services_that_serve_are_not_replaced_by_a_records_when_they_cannot_be_refreshed(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin, other: Origin
) -> None:
    names.records["kept-srv.old.test"] = [
        record("kept-srv.old.test", SRV(1, 1, echo.port, "a.kept-srv.old.test"), 1),
        record("kept-srv.old.test", A("127.0.0.1"), 1),
    ]
    names.set_a("a.kept-srv.old.test", "127.0.0.1")
    path = blueprints.path(f"http://kept-srv.old.test:{other.port}/")
    assert gateway.get(path).status == 200
    names.codes["kept-srv.old.test/SRV"] = SERVER_FAILURE
    stale = "name.stale name=kept-srv.old.test"
    until(lambda: gateway.get(path).status == 200 and gateway.error_log.containing(stale), "a refresh that failed")
    assert {gateway.get(path).status for _ in range(5)} == {200}
    assert not other.requests


def test_a_target_that_is_not_answered_for_is_not_waited_for_long(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_srv("slow.srv.test", (1, 1, echo.port, "a.slow.srv.test"), (1, 1, echo.port, "b.slow.srv.test"))
    names.set_a("a.slow.srv.test", "127.0.0.1")
    names.silent.add("b.slow.srv.test")
    begun = time.monotonic()
    assert gateway.get(blueprints.path("http://slow.srv.test/")).status == 200
    # One server may take a second, and is asked twice.
    assert time.monotonic() - begun < 1.9


def test_services_whose_targets_cannot_be_had_are_not_replaced_by_a_records(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin, other: Origin
) -> None:
    names.records["out.old.test"] = [
        record("out.old.test", SRV(1, 1, echo.port, "a.out.old.test")),
        record("out.old.test", SRV(1, 1, echo.port, "b.out.old.test")),
        record("out.old.test", A("127.0.0.1")),
    ]
    names.set_a("a.out.old.test", "127.0.0.1")
    names.codes["a.out.old.test"] = names.codes["b.out.old.test"] = SERVER_FAILURE
    path = blueprints.path(f"http://out.old.test:{other.port}/")
    assert gateway.get(path).status == 500
    assert not other.requests
    # One target is enough to go on, and the other is asked for again soon.
    del names.codes["a.out.old.test"]
    until(lambda: gateway.get(path).status == 200, "the services")
    gateway.error_log.wait_for("name.found name=out.old.test")
    asked = names.count("b.out.old.test")
    until(lambda: gateway.get(path).status == 200 and names.count("b.out.old.test") > asked, "the other target")


# === time ===


def test_an_answer_serves_for_its_ttl(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_a("fresh.old.test", "127.0.0.1")
    path = blueprints.path(f"http://fresh.old.test:{echo.port}/")
    assert {gateway.get(path).status for _ in range(10)} == {200}
    assert names.count("fresh.old.test", "A") == 1


def test_an_answer_of_ttl_0_is_asked_for_on_each_request(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: Pair
) -> None:
    names.set_a("once.old.test", "127.0.0.1", ttl_s=0)
    path = blueprints.path(f"http://once.old.test:{pair.port}/")
    assert gateway.get(path).status == 200
    names.set_a("once.old.test", "127.0.0.2", ttl_s=0)
    assert gateway.get(path).status == 200
    assert names.count("once.old.test", "A") == 2
    assert pair.counts() == (1, 1)


def test_an_answer_of_ttl_0_serves_on_while_the_server_fails(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("once-more.old.test", "127.0.0.1", ttl_s=0)
    path = blueprints.path(f"http://once-more.old.test.:{echo.port}/")
    assert gateway.get(path).status == 200
    names.codes["once-more.old.test"] = SERVER_FAILURE
    assert {gateway.get(path).status for _ in range(5)} == {200}
    asked = len(names.types("once-more.old.test"))
    assert asked > 2
    del names.codes["once-more.old.test"]
    del names.records["once-more.old.test"]
    until(lambda: gateway.get(path).status == 503, "the name to be gone")


def test_a_name_that_has_no_record_for_now_is_served_stale(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("empty.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://empty.old.test.:{echo.port}/")
    assert gateway.get(path).status == 200
    names.set_a("empty.old.test")
    stale = "name.stale name=empty.old.test"
    until(lambda: gateway.get(path).status == 200 and gateway.error_log.containing(stale), "an empty answer")
    assert {gateway.get(path).status for _ in range(5)} == {200}


def test_stale_answers_serve_while_they_are_refreshed_in_the_background(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: Pair
) -> None:
    names.set_a("stale.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://stale.old.test:{pair.port}/")
    assert gateway.get(path).status == 200
    names.set_a("stale.old.test", "127.0.0.2", ttl_s=1)

    def moved() -> bool:
        assert gateway.get(path).status == 200
        return pair.counts()[1] > 0

    until(moved, "a request at the new address")
    gateway.error_log.wait_for("name.found name=stale.old.test", 2)


def test_a_request_never_waits_on_a_refresh(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_a("slow.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://slow.old.test:{echo.port}/")
    assert gateway.get(path).status == 200
    names.hold("slow.old.test")
    asked = names.count("slow.old.test", "A")
    try:
        until(lambda: gateway.get(path).status == 200 and names.count("slow.old.test", "A") > asked, "a refresh")
        for _ in range(20):
            begun = time.monotonic()
            assert gateway.get(path).status == 200
            # The server's silence costs a second at least.
            assert time.monotonic() - begun < 0.9
    finally:
        names.release("slow.old.test")


def test_stale_answers_serve_while_the_server_fails(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("kept.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://kept.old.test:{echo.port}/")
    assert gateway.get(path).status == 200
    names.codes["kept.old.test"] = SERVER_FAILURE
    until(lambda: gateway.get(path).status == 200 and gateway.error_log.containing("name.stale name=kept.old.test"), "a failure")
    assert {gateway.get(path).status for _ in range(10)} == {200}


def test_a_name_that_is_gone_is_not_served_stale(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("gone.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://gone.old.test:{echo.port}/")
    assert gateway.get(path).status == 200
    del names.records["gone.old.test"]
    until(lambda: gateway.get(path).status == 503, "the name to be gone")


def test_nxdomain_is_cached_for_dns_not_found_ttl(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    path = blueprints.path(f"http://late.old.test.:{echo.port}/")
    begun = time.monotonic()
    assert gateway.get(path).status == 503
    names.set_a("late.old.test", "127.0.0.1")
    asked = len(names.types("late.old.test"))
    assert gateway.get(path).status == 503
    assert len(names.types("late.old.test")) == asked
    (line,) = gateway.error_log.containing("cache-hit/dns server error: 3 name error")
    assert '"late.old.test:33 - cache-hit/dns server error: 3 name error"' in line
    until(lambda: gateway.get(path).status == 200, "the name to be asked for again")
    assert time.monotonic() - begun >= NOT_FOUND_TTL_S


def test_errors_are_cached_for_dns_error_ttl(names: NameServer, echo: Origin) -> None:
    names.set_a("shaky.old.test", "127.0.0.1")
    names.codes["shaky.old.test"] = REFUSED
    # Were it the time of names that do not exist, nobody would live to see the name asked for again.
    settings = {"dns_resolver": names.address, "dns_error_ttl": str(ERROR_TTL_S), "dns_not_found_ttl": "3600"}
    with Gateway(settings) as gateway:
        path = Blueprints(gateway).path(f"http://shaky.old.test.:{echo.port}/")
        begun = time.monotonic()
        assert gateway.get(path).status == 500
        del names.codes["shaky.old.test"]
        until(lambda: gateway.get(path).status == 200, "the name to be asked for again")
        assert time.monotonic() - begun >= ERROR_TTL_S
        assert gateway.error_log.containing("dns server error: 5 refused")


@pytest.fixture(scope="module")
def patient(names: NameServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that waits for its name server for as long as a test may hold an answer back."""
    conf = tmp_path_factory.mktemp("patient") / "resolv.conf"
    conf.write_text("options timeout:10 attempts:1\n")
    with Gateway({"dns_resolver": names.address, "dns_resolv_conf": str(conf), "log_level": "debug"}) as started:
        yield started


def test_identical_look_ups_are_joined(patient: Gateway, names: NameServer, echo: Origin) -> None:
    gateway, blueprints = patient, Blueprints(patient)
    names.set_a("joined.old.test", "127.0.0.1", ttl_s=0)
    names.hold("joined.old.test")
    path = blueprints.path(f"http://joined.old.test:{echo.port}/")
    replies: list[raw.Reply] = []
    clients = [threading.Thread(target=lambda: replies.append(gateway.get(path))) for _ in range(8)]
    for client in clients:
        client.start()
    until(lambda: gateway.error_log.containing("route.matched") and names.count("joined.old.test") == 1, "a question")
    gateway.error_log.wait_for("route.matched", len(clients))
    names.release("joined.old.test")
    for client in clients:
        client.join()
    assert [reply.status for reply in replies] == [200] * len(clients)
    assert names.types("joined.old.test") == ["SRV", "A"]


def test_a_client_that_leaves_does_not_end_the_look_up(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("left.old.test", "127.0.0.1")
    names.hold("left.old.test")
    path = blueprints.path(f"http://left.old.test:{echo.port}/")
    with gateway.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
        until(lambda: names.count("left.old.test"), "a question")
    gateway.access_log.wait_for("499")
    names.release("left.old.test")
    gateway.error_log.wait_for("name.found name=left.old.test")
    assert gateway.get(path).status == 200
    assert names.count("left.old.test", "A") == 1


# === records ===


def test_requests_are_shared_among_records(gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: Pair) -> None:
    names.set_a("shared.old.test", "127.0.0.1", "127.0.0.2")
    path = blueprints.path(f"http://shared.old.test:{pair.port}/")
    for _ in range(10):
        assert gateway.get(path).status == 200
    assert pair.counts() == (5, 5)


def test_records_of_other_names_are_no_answer(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.records["asked.old.test"] = [record("forged.old.test", A("127.0.0.1"))]
    assert gateway.get(blueprints.path(f"http://asked.old.test.:{echo.port}/")).status == 503


def test_truncated_answers_are_asked_for_again_over_tcp(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, pair: Pair
) -> None:
    names.set_a("large.old.test", "127.0.0.1", *(["127.0.0.2"] * 100))
    path = blueprints.path(f"http://large.old.test:{pair.port}/")
    for _ in range(4):
        assert gateway.get(path).status == 200
    assert names.count("large.old.test", "A", "udp") == names.count("large.old.test", "A", "tcp") == 1
    # The same address a hundred times is one.
    assert pair.counts() == (2, 2)


def test_thousands_of_records_are_cut(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    names.set_a("flood.old.test", *(f"127.1.{number // 250}.{number % 250 + 1}" for number in range(2000)))
    assert gateway.get(blueprints.path("http://flood.old.test:1/", retries=0)).status == 502
    gateway.error_log.wait_for("name.found name=flood.old.test")


def test_a_ttl_without_end_is_cut(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_a("eternal.old.test", "127.0.0.1", ttl_s=2**32 - 1)
    assert gateway.get(blueprints.path(f"http://eternal.old.test:{echo.port}/")).status == 200
    (line,) = gateway.error_log.wait_for("name.found name=eternal.old.test")
    assert f"ttl_s={7 * 24 * 3600}" in line


# === where names are looked for ===


def test_search_domains_and_ndots(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_a("short.two.test", "127.0.0.1")
    assert gateway.get(blueprints.path(f"http://short:{echo.port}/")).status == 200
    asked = [(question.name, question.type) for question in names.asked if question.name.startswith("short")]
    # Fewer dots than ndots: the search domains go first; the types are the outer circle.
    within = ["short.one.test", "short.two.test", "short"]
    assert asked == [(name, "SRV") for name in within] + [(name, "A") for name in within[:2]]


def test_a_name_with_many_dots_is_tried_as_such_first(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("so.many.dots", "127.0.0.1")
    assert gateway.get(blueprints.path(f"http://so.many.dots:{echo.port}/")).status == 200
    assert names.questions[-1] == "so.many.dots"
    assert names.types("so.many.dots.one.test") == ["SRV"]


def test_a_name_with_a_dot_at_its_end_is_whole(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    assert gateway.get(blueprints.path("http://whole./")).status == 503
    assert names.types("whole") == ["SRV", "A", "CNAME"]
    assert not [name for name in names.questions if name.startswith("whole.")]


def test_hosts_file_goes_first(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    for host in ("hosted.test", "mixed.test"):
        assert gateway.get(blueprints.path(f"http://{host}:{echo.port}/")).status == 200
        assert names.count(host) == 0


def test_a_hosts_file_that_changes_is_read_again(gateway: Gateway, blueprints: Blueprints, files: Path, pair: Pair) -> None:
    path = blueprints.path(f"http://hosted.test:{pair.port}/")
    assert gateway.get(path).status == 200
    (files / "hosts").write_text(HOSTS.replace("127.0.0.1 hosted", "127.0.0.2 hosted"))
    until(lambda: gateway.get(path).status == 200 and pair.counts()[1], "the new address")
    (files / "hosts").write_text(HOSTS)


def test_a_name_that_cannot_be_is_not_asked_for(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    asked = len(names.asked)
    label = "a" * 64
    assert gateway.get(blueprints.path(f"http://{label}.old.test/")).status == 503
    assert gateway.error_log.containing("a label is longer than 63 characters")
    assert len(names.asked) == asked


# === servers that fail ===


def test_a_silent_server_fails_the_request_after_its_tries(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    names.silent.add("silent.old.test")
    begun = time.monotonic()
    assert gateway.get(blueprints.path("http://silent.old.test/")).status == 500
    assert 1.9 <= time.monotonic() - begun < 5
    # A name whose SRV records cannot be had must not be taken for one that has none.
    assert names.types("silent.old.test") == ["SRV", "SRV"]
    (line,) = gateway.error_log.containing("DNS resolution failed: ")
    assert f"failed to receive reply from UDP server {names.address}: timeout" in line


def test_a_type_that_fails_does_not_hide_another(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("half.old.test", "127.0.0.1")
    names.codes["half.old.test/SRV"] = SERVER_FAILURE
    assert gateway.get(blueprints.path(f"http://half.old.test:{echo.port}/")).status == 200


def test_the_error_log_says_what_was_tried(gateway: Gateway, blueprints: Blueprints, names: NameServer) -> None:
    names.codes["told.old.test/CNAME"] = NAME_ERROR
    names.addresses["told.old.test"] = []
    assert gateway.get(blueprints.path("http://told.old.test./")).status == 503
    (line,) = gateway.error_log.wait_for("DNS resolution failed: ")
    empty, no_name = "dns client error: 101 empty record received", "dns server error: 3 name error"
    tried = f'"told.old.test:33 - {empty}","told.old.test:1 - {empty}","told.old.test:5 - {no_name}"'
    assert f'{no_name}. Tried: ["(short)told.old.test.:(na) - cache-miss",{tried}]' in line


def test_the_debug_log_says_what_is_known_and_how_old_it_is(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("aged.old.test", "127.0.0.1", ttl_s=77)
    path = blueprints.path(f"http://aged.old.test:{echo.port}/")
    assert gateway.get(path).status == 200
    reply = gateway.get(path)
    (line,) = [line for line in gateway.error_log.lines() if reply.request_id in line and "name.known" in line]
    assert "name.known host=aged.old.test kind=A age_ms=" in line
    assert f"ttl_s=77 is_stale=false server={names.address}" in line


def test_an_answer_that_is_rubbish_is_not_listened_to(
    gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin
) -> None:
    names.set_a("rubbish.old.test", "127.0.0.1")
    sent: list[int] = []

    def forge(reply: DNSRecord) -> DNSRecord:
        sent.append(reply.header.id)
        if len(sent) == 1:
            reply.header.id ^= 1
        return reply

    names.changes["rubbish.old.test"] = forge
    assert gateway.get(blueprints.path(f"http://rubbish.old.test:{echo.port}/")).status == 200
    # The first was not believed, and asked for again after a second.
    assert names.types("rubbish.old.test") == ["SRV", "SRV", "A"]


# === others ===


def test_every_request_asks_for_itself_with_dns_no_sync(names: NameServer, echo: Origin, tmp_path: Path) -> None:
    names.set_a("apart.old.test", "127.0.0.1", ttl_s=0)
    conf = tmp_path / "resolv.conf"
    # No question is sent twice because its answer is held back.
    conf.write_text("options timeout:10 attempts:1\n")
    settings: dict[str, str | int] = {
        "dns_resolver": names.address,
        "dns_resolv_conf": str(conf),
        "dns_no_sync": "on",
        "dns_order": "A",
    }
    with Gateway(settings) as gateway:
        path = Blueprints(gateway).path(f"http://apart.old.test:{echo.port}/")
        names.hold("apart.old.test")
        replies: list[raw.Reply] = []
        clients = [threading.Thread(target=lambda: replies.append(gateway.get(path))) for _ in range(3)]
        for client in clients:
            client.start()
        until(lambda: names.count("apart.old.test", "A") == len(clients), "a question of each request")
        names.release("apart.old.test")
        for client in clients:
            client.join()
        assert [reply.status for reply in replies] == [200] * len(clients)
        assert names.count("apart.old.test", "A") == len(clients)


def test_servers_stand_in_resolv_conf_and_the_next_is_asked_when_one_is_down(
    names: NameServer, echo: Origin, tmp_path: Path
) -> None:
    down, later = NameServer(), NameServer()
    down.stop()
    names.set_a("second.old.test", "127.0.0.1")
    later.set_a("later.old.test", "127.0.0.1")
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {down.address}\nnameserver {names.address}\noptions timeout:1 attempts:1\n")
    with Gateway({"dns_resolv_conf": str(conf), "dns_not_found_ttl": "0.1"}) as gateway:
        blueprints = Blueprints(gateway)
        assert gateway.get(blueprints.path(f"http://second.old.test:{echo.port}/")).status == 200
        path = blueprints.path(f"http://later.old.test:{echo.port}/")
        assert gateway.get(path).status == 503
        conf.write_text(f"nameserver {later.address}\n")
        until(lambda: gateway.get(path).status == 200, "the other server to be asked")
    later.stop()


def test_dns_valid_ttl_overrides_and_dns_stale_ttl_ends(names: NameServer, echo: Origin) -> None:
    names.set_a("valid.old.test", "127.0.0.1", ttl_s=3600)
    settings: dict[str, str | int] = {"dns_resolver": names.address, "dns_valid_ttl": "0.5", "dns_stale_ttl": "0.5"}
    with Gateway(settings) as gateway:
        path = Blueprints(gateway).path(f"http://valid.old.test:{echo.port}/")
        assert gateway.get(path).status == 200
        names.codes["valid.old.test"] = SERVER_FAILURE
        until(lambda: gateway.get(path).status == 500, "the stale answer to end")


def test_dnsmasq_gives_addresses_services_and_short_times(echo: Origin, pair: Pair) -> None:
    lines = [
        "host-record=real.test,127.0.0.1,1",
        f"srv-host=service.test,real.test,{echo.port}",
        "cname=alias.test,real.test,1",
        *(f"host-record=many.test,127.0.2.{number}" for number in range(1, 60)),
        "local-ttl=1",
    ]
    with Dnsmasq(*lines) as server, Gateway({"dns_resolver": f"127.0.0.1:{server.port}", "log_level": "debug"}) as gateway:
        blueprints = Blueprints(gateway)
        for url in (f"http://real.test:{echo.port}/", "http://service.test/", f"http://alias.test:{echo.port}/"):
            path = blueprints.path(url)
            assert gateway.get(path).status == 200, url
        assert gateway.get(blueprints.path("http://none.test/")).status == 503
        path = blueprints.path(f"http://real.test:{echo.port}/")
        until(
            lambda: gateway.get(path).status == 200 and len(gateway.error_log.containing("name.found name=real.test")) > 1,
            "TTL 1",
        )
        # Sixty records do not fit into a datagram.
        assert gateway.get(blueprints.path("http://many.test:1/", retries=0)).status == 502
        (line,) = gateway.error_log.wait_for("name.found name=many.test")
        assert "kind=A" in line


def test_names_beyond_dns_cache_size_are_forgotten_and_those_in_use_stay(names: NameServer, echo: Origin) -> None:
    settings: dict[str, str | int] = {"dns_resolver": names.address, "dns_cache_size": 3}
    hosts = [f"bound-{number}.old.test" for number in range(6)]
    for host in hosts:
        names.set_a(host, "127.0.0.1")
    with Gateway(settings) as gateway:
        blueprints = Blueprints(gateway)
        paths = [blueprints.path(f"http://{host}:{echo.port}/") for host in hosts]
        for path in paths:
            assert gateway.get(paths[0]).status == 200
            assert gateway.get(path).status == 200
        assert names.count(hosts[0], "A") == 1
        assert gateway.get(paths[1]).status == 200
        assert names.count(hosts[1], "A") == 2


def test_the_new_client_asks_for_a_then_aaaa_and_for_srv_of_services_alone(names: NameServer, echo: Origin) -> None:
    settings: dict[str, str | int] = {
        "new_dns_client": "on",
        "resolver_address": names.address,
        "resolver_family": "SRV,AAAA,A",
        "resolver_error_ttl": "0.2",
    }
    names.set_a("plain.new.test", "127.0.0.1")
    names.set_srv("_http._tcp.new.test", (1, 1, echo.port, "plain.new.test"))
    six = Origin(good, listener=socket.create_server(("::1", 0), family=socket.AF_INET6))
    names.set_aaaa("six.new.test", "::1")
    with Gateway(settings) as gateway, six:
        blueprints = Blueprints(gateway)
        assert gateway.get(blueprints.path(f"http://plain.new.test:{echo.port}/")).status == 200
        assert names.types("plain.new.test") == ["A"]
        assert gateway.get(blueprints.path(f"http://six.new.test:{six.port}/")).status == 200
        assert names.types("six.new.test") == ["A", "AAAA"]
        assert gateway.get(blueprints.path("http://_http._tcp.new.test/")).status == 200
        assert names.types("_http._tcp.new.test") == ["SRV"]
        late = blueprints.path(f"http://late.new.test:{echo.port}/")
        assert gateway.get(late).status == 503
        names.set_a("late.new.test", "127.0.0.1")
        until(lambda: gateway.get(late).status == 200, "resolver_error_ttl")


def test_control_is_told_of_every_change(gateway: Gateway, blueprints: Blueprints, names: NameServer, echo: Origin) -> None:
    names.set_a("reported.old.test", "127.0.0.1", ttl_s=1)
    path = blueprints.path(f"http://reported.old.test:{echo.port}/")
    assert gateway.get(path).status == 200

    def told() -> dict[str, Any]:
        answer = gateway.admin.call("GET", "/dns/reported.old.test")
        return answer.json if answer.status == 200 else {"state": None, "error": None}

    until(lambda: told()["state"] in ("fresh", "stale"), "the answer to be shown")
    names.codes["reported.old.test"] = SERVER_FAILURE

    def has_failed() -> bool:
        assert gateway.get(path).status == 200
        return "2 server failure" in (told()["error"] or "")

    until(has_failed, "the failure to be shown")
    assert told()["state"] == "stale"
    holds_for(lambda: gateway.get(path).status == 200, "stale answers serve", 0.3)
    names.set_a("reported.old.test", "127.0.0.1", ttl_s=60)
    del names.codes["reported.old.test"]

    def is_back() -> bool:
        assert gateway.get(path).status == 200
        return (told()["state"], told()["error"]) == ("fresh", None)

    until(is_back, "the answer to be shown as fresh")
