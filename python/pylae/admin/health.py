# SPDX-License-Identifier: Apache-2.0
"""How do the Targets of an Upstream do, and how does an operator say so?

Nothing is probed yet: a Target is healthy until it is marked, and back when it is marked so. Which addresses a name
has is asked here and now; workers ask for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import answer, empty, message, not_found
from pylae.admin.crud import Crud, Handler, Handlers, paged, parameter
from pylae.admin.queries import page_size
from pylae.control.health import Health, addresses_of, is_checked, place_of
from pylae.database.changes import Row
from pylae.database.dao import ReadDao
from pylae.database.paging import MAX_PAGE_SIZE, Page

OFF: Final = "HEALTHCHECKS_OFF"
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"
DNS_ERROR: Final = "DNS_ERROR"
DNS_FAILED: Final = "dns server error: name resolution failed"


@dataclass(frozen=True, slots=True)
class Place:
    """One Target with the addresses that it stands for."""

    target: Row
    host: str
    port: int
    addresses: Sequence[str]

    def weights(self, is_out: Callable[[Row, str], bool]) -> dict[str, int]:
        """Its share of the requests, as it is and as it would be."""
        weight = self.target["weight"]
        available = sum(0 if is_out(self.target, address) else weight for address in self.addresses)
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
        if is_whole:
            body = {"data": self._whole(upstream, places), "next": None, "node_id": self._node_id}
            return answer(200, body)
        schema = self._crud.catalogue.schema("targets")
        rows = [{**schema.present(place.target), **self._of_target(upstream, place)} for place in places]
        return paged(rows, f"/upstreams/{upstream['id']}/health", page.offset, query, node_id=self._node_id)

    def _of_target(self, upstream: Row, place: Place) -> dict[str, Any]:
        if not place.addresses:
            data = {"host": place.host, "port": place.port, "dns": DNS_FAILED, "nodeWeight": place.target["weight"]}
            return {"health": DNS_ERROR, "data": {**data, "weight": place.weights(self._health.is_out), "addresses": []}}
        host = self._of_host(upstream, place)
        if not is_checked(upstream):
            health = OFF
        else:
            # One address that answers is enough.
            health = HEALTHY if any(one["health"] == HEALTHY for one in host["addresses"]) else UNHEALTHY
        return {"health": health, "data": host}

    def _of_host(self, upstream: Row, place: Place) -> dict[str, Any]:
        weight = place.target["weight"]
        addresses = [
            {"ip": address, "port": place.port, "weight": weight, "health": self._of_address(upstream, place.target, address)}
            for address in place.addresses
        ]
        return {
            "host": place.host,
            "port": place.port,
            "dns": "A",
            "nodeWeight": weight,
            "weight": place.weights(self._health.is_out),
            "addresses": addresses,
        }

    def _of_address(self, upstream: Row, target: Row, address: str) -> str:
        if not is_checked(upstream):
            return OFF
        return UNHEALTHY if self._health.is_out(target, address) else HEALTHY

    def _whole(self, upstream: Row, places: Sequence[Place]) -> dict[str, Any]:
        weight = {"total": 0, "available": 0, "unavailable": 0}
        for place in places:
            for name, share in place.weights(self._health.is_out).items():
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
                "hosts": [self._of_host(upstream, place) for place in places if place.addresses],
            },
        }

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
            address: str | None = None
            if has_address:
                address = _address_of(parameter(request, "address"), place)
                if address is None:
                    return not_found()
            if not is_checked(upstream):
                return message(400, f"no healthchecker found for {upstream['name']}")
            if is_healthy:
                self._health.take_back(target, address, place.addresses)
            else:
                self._health.take_out(target, address)
            return empty()

        return put


async def _places(targets: Sequence[Row]) -> list[Place]:
    """The Targets with their addresses, in the same order."""
    places = [(target, *place_of(target["target"])) for target in targets]
    addresses: Mapping[str, list[str]] = await addresses_of(host for _, host, _ in places)
    return [Place(target, host, port, addresses[host]) for target, host, port in places]


def _address_of(given: str, place: Place) -> str | None:
    """The address of a Target that is meant by `ip` or `ip:port`; None when it has no such one."""
    for address in place.addresses:
        bracketed = f"[{address}]" if ":" in address else address
        if given in (address, bracketed, f"{bracketed}:{place.port}"):
            return address
    return None
