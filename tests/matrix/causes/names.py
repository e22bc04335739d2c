# SPDX-License-Identifier: Apache-2.0
"""How does looking a name up go wrong?"""

from __future__ import annotations

from collections.abc import Iterator

from dnslib import CNAME  # type: ignore[import-untyped]

from tests.matrix.bed import Bed
from tests.matrix.case import BOTH_SCHEMES, Broken, Variant, cause, right
from tests.support.blueprints import unique
from tests.support.origin import good
from tests.support.ports import free_port
from tests.support.servers.dns import NAME_ERROR, REFUSED, SERVER_FAILURE, NameServer, record
from tests.support.wait import until

GROUP = "dns"


@cause(
    GROUP,
    "the name does not exist (NXDOMAIN)",
    right("dns", "dns_failed", "NXDOMAIN|does not exist|name error"),
    BOTH_SCHEMES,
    is_fast=True,
)
def nxdomain(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield Broken(f"{variant.scheme}://{bed.name()}:8080/")


@cause(GROUP, "the name server fails (SERVFAIL)", right("dns", "resolver_failed", "SERVFAIL|server failure"), is_fast=True)
def servfail(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name()
    bed.names.codes[name] = SERVER_FAILURE
    yield Broken(f"{variant.scheme}://{name}:8080/")


@cause(GROUP, "the name server refuses to answer (REFUSED)", right("dns", "resolver_failed", "refused"), is_fast=True)
def dns_refused(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name()
    bed.names.codes[name] = REFUSED
    yield Broken(f"{variant.scheme}://{name}:8080/")


@cause(
    GROUP,
    "the name server does not answer in time",
    right("dns", "resolver_failed", "timeout|time out|timed out|in time", unsure="network"),
)
def dns_timeout(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name()
    bed.names.silent.add(name)
    yield Broken(f"{variant.scheme}://{name}:8080/")


@cause(GROUP, "nothing listens where the name server should be", right("dns", "resolver_failed", unsure="network"))
def dns_server_down(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name, before = bed.name(), bed.names
    before.stop()
    try:
        yield Broken(f"{variant.scheme}://{name}:8080/")
    finally:
        bed.names = NameServer(before.port)


@cause(GROUP, "the name exists and has no address (empty answer)", right("dns", "dns_failed"), is_fast=True)
def dns_empty(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name()
    bed.names.addresses[name] = []
    yield Broken(f"{variant.scheme}://{name}:8080/")


@cause(GROUP, "the name is an alias of one that does not exist", right("dns", "dns_failed"), is_fast=True)
def dns_dangling_alias(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name()
    bed.names.records[name] = [record(name, CNAME(bed.name()))]
    yield Broken(f"{variant.scheme}://{name}:8080/")


@cause(
    GROUP,
    "the name still leads to the old server: its servers fail, and what they said before is served stale",
    # The old server is gone, and stays gone however often it is asked; that a stale answer led there must be said.
    right("dns", "connect_refused", "stale", unsure="upstream network"),
    is_stock=False,
)
def dns_stale(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = bed.name("127.0.0.1", ttl_s=1)
    with bed.behind(good) as origin:
        url = f"http://{name}:{origin.port}/"
        path = bed.blueprints.path(url, retries=0)
        assert bed.gateway.get(path).status == 200
    bed.names.codes[name] = SERVER_FAILURE
    asked = bed.names.count(name)

    def is_stale() -> bool:
        bed.gateway.get(path)
        return bed.names.count(name) > asked + 1

    until(is_stale, "the name to be asked for again", 8)
    yield Broken(path=path)


@cause(
    GROUP,
    "the name leads to the wrong address, where nothing listens",
    # Whether the address or the server there is wrong can't be seen; only who knows the right address can tell.
    right("dns", "connect_refused", "127.0.0.9", unsure="upstream network"),
    BOTH_SCHEMES,
    is_fast=True,
)
def dns_wrong_address(bed: Bed, variant: Variant) -> Iterator[Broken]:
    yield Broken(f"{variant.scheme}://{bed.name('127.0.0.9')}:{free_port()}/")


@cause(
    GROUP,
    "the only Target of the Upstream is a name that does not exist",
    right("dns", "dns_failed no_healthy_target", unsure="gateway upstream"),
    is_stock=False,
)
def dns_of_a_target(bed: Bed, variant: Variant) -> Iterator[Broken]:
    upstream = bed.blueprints.upstream(f"{bed.name()}:8080")
    yield Broken(f"http://{upstream['name']}/")


@cause(
    GROUP,
    "a name of one label that only the search domain of another machine completes",
    right("dns", "dns_failed"),
    is_fast=True,
)
def dns_short_name(bed: Bed, variant: Variant) -> Iterator[Broken]:
    name = unique("orders")
    bed.names.codes[name] = NAME_ERROR
    yield Broken(f"{variant.scheme}://{name}:8080/")
