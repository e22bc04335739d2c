# SPDX-License-Identifier: Apache-2.0
"""Which Targets did an operator take out of rotation?

A mark belongs to the running gateway and not to its configuration: a file keeps it over the death of this process,
and the next supervisor begins without any. Workers are told the whole list, on every change and whenever one of them
connects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from pylae.control.frames import message
from pylae.control.line import LineServer, Log
from pylae.control.run import run_of
from pylae.database.changes import Commit, Replacement, Row
from pylae.database.dao import ReadDao
from pylae.entities.targets import DEFAULT_PORT
from pylae.schema.rules import parse_host

RESOLVE_WITHIN_S: Final = 5.0
"""For all names of one answer together."""

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


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


@dataclass
class Mark:
    """What was taken out of one Target.

    Attributes:
        place: host and port of the Target; one that moved is another.
        is_whole: the Target with whatever addresses its name may come to have.
        addresses: single ones, when it is not the whole.
    """

    upstream_id: str
    place: str
    is_whole: bool = False
    addresses: set[str] = field(default_factory=set)

    def holds(self, target: Row, upstream: Row) -> bool:
        """Whether it still says something of these rows."""
        return bool(target["target"] == self.place) and is_checked(upstream)


class Kept(msgspec.Struct):
    """What the file holds: the marks by the id of their Target, and for which run of the gateway."""

    run: str
    marks: dict[str, Mark]


class Health:
    """The marks on Targets.

    Args:
        line: to the workers.
        log: takes lines for the error log.
        path: of the file that keeps them; None keeps them in memory only.
    """

    def __init__(self, line: LineServer, log: Log, path: Path | None = None) -> None:
        self._line = line
        self._log = log
        self._path = path
        self._run = run_of(os.getppid())
        self._marks = self._load()
        line.greet_with(self._message)

    def __repr__(self) -> str:
        return f"<health marks={len(self._marks)}>"

    def is_out(self, target: Row, address: str) -> bool:
        """Whether requests keep away from this address of a Target."""
        mark = self._marks.get(target["id"])
        return mark is not None and mark.place == target["target"] and (mark.is_whole or address in mark.addresses)

    def take_out(self, target: Row, address: str | None = None) -> None:
        """Keeps requests away from a Target, or from one of its addresses."""
        mark = self._marks.get(target["id"])
        if mark is None or mark.place != target["target"]:
            mark = self._marks[target["id"]] = Mark(target["upstream"]["id"], target["target"])
        if address is None:
            mark.is_whole = True
            mark.addresses.clear()
        elif not mark.is_whole:
            mark.addresses.add(address)
        self._tell()

    def take_back(self, target: Row, address: str | None = None, siblings: Iterable[str] = ()) -> None:
        """Lets requests go to a Target again, or to one of its addresses.

        Args:
            target: its row.
            address: None for all of it.
            siblings: every address it has; the others stay out if the whole Target was.
        """
        mark = self._marks.get(target["id"])
        if mark is None:
            return
        if address is None:
            del self._marks[target["id"]]
        else:
            if mark.is_whole:
                mark.is_whole = False
                mark.addresses.update(siblings)
            mark.addresses.discard(address)
            if not mark.addresses:
                del self._marks[target["id"]]
        self._tell()

    def committed(self, commit: Commit | Replacement) -> None:
        """Forgets marks on what is gone, has moved, or is not watched any more."""
        gone: set[str] = set()
        if isinstance(commit, Replacement):
            for id_, mark in self._marks.items():
                target, upstream = (
                    commit.rows.get(table, {}).get(key) for table, key in (("targets", id_), ("upstreams", mark.upstream_id))
                )
                if target is None or upstream is None or not mark.holds(_decode(target), _decode(upstream)):
                    gone.add(id_)
        else:
            for change in commit.changes:
                if change.table == "targets":
                    mark_of_target = self._marks.get(change.id)
                    if mark_of_target is not None and (change.row is None or change.row["target"] != mark_of_target.place):
                        gone.add(change.id)
                elif change.table == "upstreams" and (change.row is None or not is_checked(change.row)):
                    gone.update(id_ for id_, mark in self._marks.items() if mark.upstream_id == change.id)
        self.forget(gone)

    def stale(self, dao: ReadDao) -> set[str]:
        """Targets whose marks say nothing of what the database holds: it went on while nobody watched."""
        found = set()
        for id_, mark in tuple(self._marks.items()):
            target, upstream = dao.get("targets", id_), dao.get("upstreams", mark.upstream_id)
            if target is None or upstream is None or not mark.holds(target, upstream):
                found.add(id_)
        return found

    def forget(self, target_ids: Iterable[str]) -> None:
        """Drops the marks of these Targets."""
        dropped = [self._marks.pop(id_) for id_ in target_ids if id_ in self._marks]
        if dropped:
            self._tell()

    def _load(self) -> dict[str, Mark]:
        if self._path is None:
            return {}
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            self._log("warn", f"the marks of unhealthy Targets could not be read: {error}")
            return {}
        return kept.marks if kept.run == self._run else {}

    def _keep(self) -> None:
        if self._path is None:
            return
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(Kept(self._run, self._marks)))
            temporary.replace(self._path)
        except OSError as error:
            self._log("error", f"the marks of unhealthy Targets could not be kept: {error}")

    def _tell(self) -> None:
        self._keep()
        self._line.tell(self._message())

    def _message(self) -> bytes:
        rows: list[tuple[str, str, str | None, bool]] = []
        for target_id, mark in self._marks.items():
            addresses = [None] if mark.is_whole else sorted(mark.addresses)
            rows += [(mark.upstream_id, target_id, address, False) for address in addresses]
        return message("health", rows)


def place_of(target: str) -> tuple[str, int]:
    """Host and port of a stored Target; an IPv6 address without its brackets."""
    parsed = parse_host(target)
    return parsed.host.strip("[]"), DEFAULT_PORT if parsed.port is None else parsed.port


async def addresses_of(hosts: Iterable[str]) -> dict[str, list[str]]:
    """The addresses of each host, in order; none for a name that has none or was not answered for in time."""
    found: dict[str, list[str]] = {}
    asked: dict[str, asyncio.Task[list[str]]] = {}
    loop = asyncio.get_running_loop()
    for host in hosts:
        try:
            found[host] = [str(ipaddress.ip_address(host))]
        except ValueError:
            if host not in asked:
                asked[host] = loop.create_task(_resolve(host))
    if asked:
        await asyncio.wait(asked.values(), timeout=RESOLVE_WITHIN_S)
    for host, task in asked.items():
        found[host] = task.result() if task.done() else []
        task.cancel()
    return found


async def _resolve(host: str) -> list[str]:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(answer[4][0]) for answer in answers})
