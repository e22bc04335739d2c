# SPDX-License-Identifier: Apache-2.0
"""How do the addresses of Targets do, and how does an operator say so?

What is known lies in shared memory, where workers count what probes and requests meet. A mark is one more word there:
it holds in every worker at once, outlives this process and them, and ends with the gateway; checks go on from it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from pylae.database.changes import Commit, Replacement, Row
from pylae.entities.targets import DEFAULT_PORT
from pylae.errors import PylaeError
from pylae.schema.rules import parse_host

RESOLVE_WITHIN_S: Final = 5.0
"""For all names of one answer together."""
LOOK_EVERY_S: Final = 0.02
"""Whether workers have answered for a name that is asked for here."""

READ_ONE_BY_ONE: Final = 16
"""Each reading of one Upstream looks at the whole table: more of them are read in one go."""

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class HealthTable(Protocol):
    """The part of `pylae._core.Shared` that knows of health."""

    def health(self, upstream: str | None = None) -> Sequence[Mapping[str, Any]]:
        """What is known of every address that is looked at, or of those of one Upstream."""
        ...

    def mark_health(self, upstream: str, target: str, address: str, port: int, *, is_healthy: bool) -> bool:
        """Says how an address does; False when there is no room for it."""
        ...

    def forget_health(self, upstream: str, target: str, address: str, port: int) -> bool:
        """Forgets all that is known of an address; False when nothing was."""
        ...


class NoRoomForHealth(PylaeError):
    """The health table is full of addresses that are looked at."""

    name = "no room for health"


def is_checked(upstream: Mapping[str, Any]) -> bool:
    """Whether the health of an Upstream's Targets is watched at all."""
    active, passive = upstream["healthchecks"]["active"], upstream["healthchecks"]["passive"]
    limits = (
        active["healthy"]["interval"],
        active["unhealthy"]["interval"],
        passive["unhealthy"]["tcp_failures"],
        passive["unhealthy"]["timeouts"],
        passive["unhealthy"]["http_failures"],
    )
    # A limit may be null, which is none.
    return any(limit is not None and limit > 0 for limit in limits)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the addresses of one Upstream's Targets, at one moment; of one that is not checked, who is ejected."""

    rows: Mapping[tuple[str, Address, int], Mapping[str, Any]]
    """By id of the Target, address and port."""

    def of(self, target: Row, address: str, port: int) -> Mapping[str, Any] | None:
        """The row of an address; None: nobody asked for it yet, and it counts as healthy."""
        return self.rows.get((target["id"], ipaddress.ip_address(address), port))

    def is_out(self, target: Row, address: str, port: int) -> bool:
        """Whether requests keep away from this address of a Target."""
        row = self.of(target, address, port)
        return row is not None and not row["is_healthy"]

    def is_unhealthy(self, target: Row, address: str, port: int) -> bool:
        """Whether checks or an operator say that it does not do; an outlier that is left out for a while does."""
        row = self.of(target, address, port)
        return row is not None and not row["is_healthy"] and row["state"] != "ejected"

    def places(self, target: Row, port: int | None) -> set[tuple[str, int]]:
        """The addresses of a Target that workers have met, with their port.

        Args:
            target: whose.
            port: of them all; None: each has its own, as SRV records do.
        """
        mine = ((str(address), its_port) for id_, address, its_port in self.rows if id_ == target["id"])
        return {(address, its_port) for address, its_port in mine if port in (None, its_port)}


class Health:
    """The health of Targets.

    Args:
        table: that the workers share; None where there are no workers: all are healthy, and there is no room for a mark.
    """

    def __init__(self, table: HealthTable | None) -> None:
        self._table = table

    def __repr__(self) -> str:
        return f"<health in {self._table!r}>"

    def known(self, upstream: Row) -> Known:
        """What is known of an Upstream's Targets now."""
        # Outliers are left out whether checks are on or not.
        mine = (row for row in self._rows(upstream["id"]) if row["state"] == "ejected" or is_checked(upstream))
        return Known({(row["target"], ipaddress.ip_address(row["address"]), row["port"]): row for row in mine})

    def mark(self, target: Row, places: Iterable[tuple[str, int]], *, is_healthy: bool) -> None:
        """Takes addresses of a Target out of rotation, or back in, until checks or an operator say otherwise.

        Raises:
            NoRoomForHealth: for one of them at least; the others are marked.
        """
        refused = [address for address, port in places if not self._mark(target, address, port, is_healthy=is_healthy)]
        if refused:
            raise NoRoomForHealth(f"there is no room for the health of {', '.join(refused)}")

    def _mark(self, target: Row, address: str, port: int, *, is_healthy: bool) -> bool:
        if self._table is None:
            return False
        return self._table.mark_health(target["upstream"]["id"], target["id"], address, port, is_healthy=is_healthy)

    def committed(self, commit: Commit | Replacement) -> None:
        """Forgets who was unhealthy in an Upstream that is not watched any more.

        What is known of a Target that is gone, or has moved, is another address's and ages by itself.
        """
        for row in self._rows_of_unwatched(commit):
            # An outlier is left out whether checks are on or not.
            if not row["is_healthy"] and row["state"] != "ejected" and self._table is not None:
                self._table.forget_health(row["upstream"], row["target"], row["address"], row["port"])

    def _rows_of_unwatched(self, commit: Commit | Replacement) -> Iterator[Mapping[str, Any]]:
        if isinstance(commit, Replacement):
            upstreams = commit.rows.get("upstreams", {})
            checked: dict[str, bool] = {}
            for row in self._rows():
                id_ = row["upstream"]
                if id_ not in checked:
                    checked[id_] = id_ not in upstreams or is_checked(_decode(upstreams[id_]))
                if not checked[id_]:
                    yield row
        else:
            rows = {change.id: change.row for change in commit.changes if change.table == "upstreams"}
            unchecked = {id_ for id_, upstream in rows.items() if upstream is not None and not is_checked(upstream)}
            if len(unchecked) > READ_ONE_BY_ONE:
                yield from (row for row in self._rows() if row["upstream"] in unchecked)
            else:
                for id_ in unchecked:
                    yield from self._rows(id_)

    def _rows(self, upstream: str | None = None) -> Sequence[Mapping[str, Any]]:
        return () if self._table is None else self._table.health(upstream)


def place_of(target: str) -> tuple[str, int]:
    """Host and port of a stored Target; an IPv6 address without its brackets."""
    parsed = parse_host(target)
    return parsed.host.strip("[]"), DEFAULT_PORT if parsed.port is None else parsed.port


def is_address(host: str) -> bool:
    """Whether a host is an address already, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def addresses_of(hosts: Iterable[str], is_answered: Callable[[str], bool]) -> dict[str, list[str]]:
    """The addresses of each host, in order; none for a name that has none or was not answered for in time.

    Args:
        hosts: names and addresses.
        is_answered: whether others have meanwhile answered for a name, which is then not waited for.
    """
    found: dict[str, list[str]] = {}
    asked: dict[str, asyncio.Task[list[str]]] = {}
    loop = asyncio.get_running_loop()
    for host in hosts:
        if is_address(host):
            found[host] = [str(ipaddress.ip_address(host))]
        elif host not in asked:
            asked[host] = loop.create_task(_resolve(host))
    ends_s = loop.time() + RESOLVE_WITHIN_S
    while loop.time() < ends_s and (waits := [task for host, task in asked.items() if not (task.done() or is_answered(host))]):
        await asyncio.wait(waits, timeout=LOOK_EVERY_S)
    for host, task in asked.items():
        found[host] = task.result() if task.done() else []
        task.cancel()
    return found


async def _resolve(host: str) -> list[str]:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    # Without the zone of an address that is good on one link only.
    return sorted({str(answer[4][0]).partition("%")[0] for answer in answers})
