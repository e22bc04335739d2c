# SPDX-License-Identifier: Apache-2.0
"""How do the Targets of an Upstream do, and how does an operator say so?

What is shown is what the workers know together; beyond Kong's fields an address has `pylae`: why it is as it is, since
when, and what was found. Which addresses a name has is asked here and now; workers ask for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, empty, message, not_found
from pylae.admin.crud import Crud, Handler, Handlers, paged, parameter
from pylae.admin.queries import page_size
from pylae.control.health import Health, Known, NoRoomForHealth, addresses_of, is_address, is_checked, place_of
from pylae.database.changes import Row
from pylae.database.dao import ReadDao
from pylae.database.paging import MAX_PAGE_SIZE, Page

OFF: Final = "HEALTHCHECKS_OFF"
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"
DNS_ERROR: Final = "DNS_ERROR"
DNS_FAILED: Final = "dns server error: name resolution failed"
EVIDENCE: Final = (
    "state",
    "why",
    "since_ms",
    "successes",
    "tcp_failures",
    "timeouts",
    "http_failures",
    "probed_ms",
    "evidence",
)
"""What is shown of a row of the health table beyond Kong's fields."""


@dataclass(frozen=True, slots=True)
class Place:
    """One Target with the addresses that it stands for."""

    target: Row
    host: str
    port: int
    addresses: Sequence[str]

    def weights(self, known: Known) -> dict[str, int]:
        """Its share of the requests, as it is and as it would be."""
        weight = self.target["weight"]
        available = sum(0 if known.is_out(self.target, address, self.port) else weight for address in self.addresses)
        total = weight * len(self.addresses)
        return {"total": total, "available": available, "unavailable": total - available}


def endpoints(crud: Crud, health: Health, node_id: str) -> dict[str, Handlers]:
    """Handlers by path."""
    shows = _Shows(crud, health, node_id)
    one = "/upstreams/{upstreams}/targets/{targets}"
    marks: dict[str, Handlers] = {
        f"{path}/{word}": {"PUT": shows.mark(has_address="address" in path, is_healthy=word == "healthy")}
        for path in (one, f"{one}/{{address}}")
        for word in ("healthy", "unhealthy")
    }
    return {"/upstreams/{upstreams}/health": {"GET": shows.get}, **marks}


class _Shows:
    def __init__(self, crud: Crud, health: Health, node_id: str) -> None:
        self._crud = crud
        self._health = health
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
        places = await _places(page.rows)
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
            place = (await _places([target]))[0]
            addresses = set(place.addresses)
            if not is_address(place.host):
                # Workers may have another answer for the name.
                addresses.update(self._health.known(upstream).addresses(target, place.port))
            if has_address:
                addresses = _those_meant(parameter(request, "address"), addresses, place.port)
                if not addresses:
                    return not_found()
            if not is_checked(upstream):
                return message(400, f"no healthchecker found for {upstream['name']}")
            try:
                self._health.mark(target, sorted(addresses), place.port, is_healthy=is_healthy)
            except NoRoomForHealth as error:
                return message(503, str(error))
            return empty()

        return put


async def _places(targets: Sequence[Row]) -> list[Place]:
    """The Targets with their addresses, in the same order."""
    places = [(target, *place_of(target["target"])) for target in targets]
    addresses: Mapping[str, list[str]] = await addresses_of(host for _, host, _ in places)
    return [Place(target, host, port, addresses[host]) for target, host, port in places]


def _of_target(upstream: Row, place: Place, known: Known) -> dict[str, Any]:
    if not place.addresses:
        data = {"host": place.host, "port": place.port, "dns": DNS_FAILED, "nodeWeight": place.target["weight"]}
        return {"health": DNS_ERROR, "data": {**data, "weight": place.weights(known), "addresses": []}}
    host = _of_host(upstream, place, known)
    if not is_checked(upstream):
        health = OFF
    else:
        # One address that answers is enough.
        health = HEALTHY if any(one["health"] == HEALTHY for one in host["addresses"]) else UNHEALTHY
    return {"health": health, "data": host}


def _of_host(upstream: Row, place: Place, known: Known) -> dict[str, Any]:
    return {
        "host": place.host,
        "port": place.port,
        "dns": "A",
        "nodeWeight": place.target["weight"],
        "weight": place.weights(known),
        "addresses": [_of_address(upstream, place, address, known) for address in place.addresses],
    }


def _of_address(upstream: Row, place: Place, address: str, known: Known) -> dict[str, Any]:
    shown: dict[str, Any] = {"ip": address, "port": place.port, "weight": place.target["weight"]}
    if not is_checked(upstream):
        return {**shown, "health": OFF}
    shown["health"] = UNHEALTHY if known.is_out(place.target, address, place.port) else HEALTHY
    row = known.of(place.target, address, place.port)
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


def _those_meant(given: str, addresses: Iterable[str], port: int) -> set[str]:
    """The address that is meant by `ip` or `ip:port`, alone; none when it is not among these."""
    for address in addresses:
        bracketed = f"[{address}]" if ":" in address else address
        if given in (address, bracketed, f"{bracketed}:{port}"):
            return {address}
    return set()
