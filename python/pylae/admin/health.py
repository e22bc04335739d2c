# SPDX-License-Identifier: Apache-2.0
"""How do the Targets of an Upstream do, and how does an operator say so?

What is shown is what the workers know together; beyond Kong's fields an address has `pylae`: why it is as it is, since
when, and what was found. Which addresses a name has is what workers reported, with its age; a name of which none has
reported anything is asked for here and now.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, empty, message, not_found
from pylae.admin.crud import Crud, Handler, Handlers, paged, parameter
from pylae.admin.dns import of_answer
from pylae.admin.queries import page_size
from pylae.control.dns import Dns, Report
from pylae.control.dns import Known as Answered
from pylae.control.health import Health, Known, NoRoomForHealth, addresses_of, is_address, is_checked, place_of
from pylae.database.changes import Row
from pylae.database.dao import ReadDao
from pylae.database.paging import MAX_PAGE_SIZE, Page

OFF: Final = "HEALTHCHECKS_OFF"
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"
DNS_ERROR: Final = "DNS_ERROR"
A: Final = "A"
AAAA: Final = "AAAA"
SRV: Final = "SRV"
VIRTUAL: Final = "ttl=0, virtual SRV"
DNS_FAILED: Final = "dns server error: name resolution failed"
EVIDENCE: Final = (
    "state",
    "why",
    "since_ms",
    "until_ms",
    "successes",
    "tcp_failures",
    "timeouts",
    "http_failures",
    "probed_ms",
    "evidence",
)
"""What is shown of a row of the health table beyond Kong's fields."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests of a Target may go, and its share of them."""

    ip: str
    port: int
    weight: int

    @property
    def place(self) -> tuple[str, int]:
        """Of the health table."""
        return self.ip, self.port


@dataclass(frozen=True, slots=True)
class Place:
    """One Target with the addresses that it stands for."""

    target: Row
    host: str
    port: int
    addresses: Sequence[Address]
    dns: str
    """Of which kind the addresses are, or why there are none."""
    source: Mapping[str, Any] | None = None
    """From whom the answer is, and its age; None: the host is an address."""
    is_virtual: bool = False
    """The name is asked for by each request: it is chosen as one, with the Target's weight."""

    def weights(self, known: Known) -> dict[str, int]:
        """Its share of the requests, as it is and as it would be."""
        if self.is_virtual:
            # Its addresses are looked at when a request asks for them: until then it counts, in workers too.
            total = available = self.target["weight"]
        else:
            total = sum(address.weight for address in self.addresses)
            # An outlier would answer.
            available = sum(address.weight for address in self.addresses if not known.is_unhealthy(self.target, *address.place))
        return {"total": total, "available": available, "unavailable": total - available}

    def has_one_in(self, known: Known) -> bool:
        """Whether requests may go to one of its addresses at least."""
        return any(not known.is_out(self.target, *address.place) for address in self.addresses)


def endpoints(crud: Crud, health: Health, dns: Dns, node_id: str) -> dict[str, Handlers]:
    """Handlers by path."""
    shows = _Shows(crud, health, dns, node_id)
    one = "/upstreams/{upstreams}/targets/{targets}"
    marks: dict[str, Handlers] = {
        f"{path}/{word}": {"PUT": shows.mark(has_address="address" in path, is_healthy=word == "healthy")}
        for path in (one, f"{one}/{{address}}")
        for word in ("healthy", "unhealthy")
    }
    return {"/upstreams/{upstreams}/health": {"GET": shows.get}, **marks}


class _Shows:
    def __init__(self, crud: Crud, health: Health, dns: Dns, node_id: str) -> None:
        self._crud = crud
        self._health = health
        self._dns = dns
        self._node_id = node_id

    async def get(self, request: Request) -> Response:
        """How each Target does, or how the Upstream does as a whole."""
        key, query = parameter(request, "upstreams"), request.query_params
        is_whole = query.get("balancer_health") == "1"
        size, offset = page_size(query), query.get("offset")

        def work(dao: ReadDao) -> tuple[Row, Page] | None:
            upstream = dao.select("upstreams", key)
            if upstream is None:
                return None
            where = {"upstream": upstream["id"]}
            if not is_whole:
                return upstream, dao.page("targets", size, offset, where=where)
            rows: list[Row] = []
            page = dao.page("targets", MAX_PAGE_SIZE, where=where)
            rows += page.rows
            while page.offset is not None:
                page = dao.page("targets", MAX_PAGE_SIZE, page.offset, where=where)
                rows += page.rows
            return upstream, Page(rows, None)

        found = await self._crud.database.read(work)
        if found is None:
            return not_found()
        upstream, page = found
        places = await _places(page.rows, self._dns)
        known = self._health.known(upstream)
        if is_whole:
            body = {"data": _whole(upstream, places, known), "next": None, "node_id": self._node_id}
            return answer(200, body)
        schema = self._crud.catalogue.schema("targets")
        rows = [{**schema.present(place.target), **_of_target(upstream, place, known)} for place in places]
        return paged(rows, f"/upstreams/{upstream['id']}/health", page.offset, query, node_id=self._node_id)

    def mark(self, *, has_address: bool, is_healthy: bool) -> Handler:
        """A handler that marks a Target, or one of its addresses."""

        async def put(request: Request) -> Response:
            key, target_key = parameter(request, "upstreams"), parameter(request, "targets")

            def work(dao: ReadDao) -> tuple[Row, Row] | None:
                upstream = dao.select("upstreams", key)
                if upstream is None:
                    return None
                target = dao.select("targets", target_key, {"upstream": upstream["id"]})
                return None if target is None else (upstream, target)

            found = await self._crud.database.read(work)
            if found is None:
                return not_found()
            upstream, target = found
            place = (await _places([target], self._dns))[0]
            meant = {address.place for address in place.addresses}
            if not is_address(place.host):
                # Workers may have, or have had, another answer for the name.
                meant |= self._health.known(upstream).places(target, None if place.dns == SRV else place.port)
            if has_address:
                meant = _those_meant(parameter(request, "address"), meant, place)
                if not meant:
                    return not_found()
            if not is_checked(upstream):
                return message(400, f"no healthchecker found for {upstream['name']}")
            try:
                self._health.mark(target, sorted(meant), is_healthy=is_healthy)
            except NoRoomForHealth as error:
                return message(503, str(error))
            return empty()

        return put


async def _places(targets: Sequence[Row], dns: Dns) -> list[Place]:
    """The Targets with their addresses, in the same order."""
    places = [(target, *place_of(target["target"])) for target in targets]

    def reported(host: str) -> Answered | None:
        return None if is_address(host) else dns.known(host)

    # Of a Target that was just made workers are about to report the name.
    unknown = [host for _, host, _ in places if reported(host) is None]
    addresses: Mapping[str, list[str]] = await addresses_of(unknown, lambda host: reported(host) is not None)
    now_s = dns.now_s()
    made = []
    for target, host, port in places:
        answer_of_workers = reported(host)
        if answer_of_workers is None:
            found = [Address(address, port, target["weight"]) for address in addresses.get(host, ())]
            source = None if is_address(host) else {"known_by": "control"}
            made.append(Place(target, host, port, found, A if found else DNS_FAILED, source))
        else:
            made.append(_reported_place(target, host, port, answer_of_workers, now_s))
    return made


def _reported_place(target: Row, host: str, port: int, known: Answered, now_s: float) -> Place:
    """A Target with the addresses that workers have for its name."""
    report = known.newest.report
    found = _addresses(report, target["weight"], port)
    if not found:
        kind = report.error or DNS_FAILED
    elif report.is_once:
        kind = VIRTUAL
    else:
        kind = report.kind if report.kind in (SRV, AAAA) else A
    about = of_answer(known.newest, now_s)
    del about["records"]
    return Place(target, host, port, found, kind, {"known_by": "workers", **about}, report.is_once)


def _addresses(report: Report, weight: int, port: int) -> list[Address]:
    """Each address once, as workers choose among them.

    Args:
        report: what is known of the name.
        weight: of the Target; of an SRV record its own, unless the Target is to get nothing.
        port: of the Target; an SRV record has its own.
    """
    weights: dict[tuple[str, int], int] = {}
    for record in report.records:
        place = str(ipaddress.ip_address(record.address)), port if record.port is None else record.port
        has_own = record.weight is not None and not report.is_once and weight > 0
        if not has_own:
            weights[place] = weight
        else:
            # Two hosts of one SRV answer may have the same address.
            weights[place] = weights.get(place, 0) + max(record.weight or 0, 1)
    return [Address(ip, its_port, share) for (ip, its_port), share in weights.items()]


def _of_target(upstream: Row, place: Place, known: Known) -> dict[str, Any]:
    host = _of_host(upstream, place, known)
    if not place.addresses:
        health = DNS_ERROR
    elif not is_checked(upstream):
        health = OFF
    else:
        # One address that answers is enough.
        health = HEALTHY if place.has_one_in(known) else UNHEALTHY
    return {"health": health, "data": host}


def _of_host(upstream: Row, place: Place, known: Known) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "dns": place.dns,
        "nodeWeight": place.target["weight"],
        "weight": place.weights(known),
        "addresses": [_of_address(upstream, place, address, known) for address in place.addresses],
    }
    return shown if place.source is None else {**shown, "pylae": place.source}


def _of_address(upstream: Row, place: Place, address: Address, known: Known) -> dict[str, Any]:
    shown: dict[str, Any] = {"ip": address.ip, "port": address.port, "weight": address.weight}
    is_out = known.is_out(place.target, *address.place)
    # Without checks an outlier can be left out all the same.
    shown["health"] = UNHEALTHY if is_out else HEALTHY if is_checked(upstream) else OFF
    row = known.of(place.target, *address.place)
    return shown if row is None else {**shown, "pylae": {name: row[name] for name in EVIDENCE}}


def _whole(upstream: Row, places: Sequence[Place], known: Known) -> dict[str, Any]:
    weight = {"total": 0, "available": 0, "unavailable": 0}
    for place in places:
        for name, share in place.weights(known).items():
            weight[name] += share
    threshold_percent = upstream["healthchecks"]["threshold"]
    is_healthy = weight["available"] > 0 and weight["available"] * 100 > threshold_percent * weight["total"]
    balancer_health = HEALTHY if is_healthy else UNHEALTHY
    return {
        "id": upstream["id"],
        "health": balancer_health if is_checked(upstream) else OFF,
        "balancer_health": balancer_health,
        "details": {
            "healthy": is_healthy,
            "weight": weight,
            "hosts": [_of_host(upstream, place, known) for place in places if place.addresses],
        },
    }


def _those_meant(given: str, places: Iterable[tuple[str, int]], place: Place) -> set[tuple[str, int]]:
    """What is meant by `ip` or `ip:port`, or by the name where it is chosen as one; nothing when it is not among these."""
    if place.is_virtual and given in (place.host, f"{place.host}:{place.port}"):
        return set(places)
    meant = set()
    for address, port in places:
        bracketed = f"[{address}]" if ":" in address else address
        if given in (address, bracketed, f"{bracketed}:{port}"):
            meant.add((address, port))
    return meant
