# SPDX-License-Identifier: Apache-2.0
"""What does the gateway know: its entities, the health of Targets, its warnings, where a request would go?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from pylae.doctor.findings import Row
from pylae.errors import PylaeError

PAGE: Final = 1000
MOST_ROWS: Final = 100_000
"""Rows of one kind that are read."""

Ask = Callable[[str, str, object], tuple[int, Mapping[str, Any]]]
"""Method, path and body of a call of the Admin API; its status and body. Blocks; raises a `PylaeError` where there is none."""


class CannotLook(PylaeError):
    """There is nothing to look at, or no way to look."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A Service, with what leads to it and what stands behind it.

    Attributes:
        routes: those that lead to it.
        upstream: the Upstream that its host names.
        targets: of that one, with their health.
    """

    service: Row
    routes: Sequence[Row] = ()
    upstream: Row | None = None
    targets: Sequence[Row] = ()

    @property
    def title(self) -> str:
        """How a person would name it."""
        service = self.service
        port, path = service.get("port"), service.get("path") or ""
        return f"{service.get('name') or service.get('id')}  {service.get('protocol')}://{service.get('host')}:{port}{path}"

    @property
    def address_of_targets(self) -> str:
        """Path of the Targets at the Admin API."""
        return f"/upstreams/{quote(str((self.upstream or {}).get('id')), safe='')}/targets"


@dataclass(slots=True)
class Configured:
    """What was read of the Admin API."""

    subjects: list[Subject] = field(default_factory=list)
    upstream_names: list[str] = field(default_factory=list)
    warnings: list[Row] | None = None
    """None: this gateway gives none."""


class AdminApi:
    """Asks the Admin API without blocking whoever probes meanwhile."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Mapping[str, Any]]:
        """Status and body."""
        return await asyncio.to_thread(self._ask, method, path, body)

    async def get(self, path: str) -> Row | None:
        """What is there; None for nothing.

        Raises:
            CannotLook: it does not tell.
        """
        status, body = await self.call("GET", path)
        if status == 404:
            return None
        if status != 200:
            raise CannotLook(f"GET {path} was answered {status}: {body.get('message', '')}")
        return body

    async def rows(self, path: str) -> list[Row] | None:
        """All rows of a list; None where there is no such list.

        Raises:
            CannotLook: it does not tell.
        """
        found: list[Row] = []
        offset = ""
        while len(found) < MOST_ROWS:
            page = await self.get(f"{path}?size={PAGE}{offset}")
            if page is None:
                return None
            found += [row for row in page.get("data") or [] if isinstance(row, Mapping)]
            if not page.get("offset"):
                break
            offset = f"&offset={quote(str(page['offset']), safe='')}"
        return found


async def read(api: AdminApi, service: str | None = None, *, has_services: bool = True) -> Configured:
    """The Services to look at, with all that belongs to them.

    Args:
        api: the Admin API.
        service: name or id; None: every one.
        has_services: whether any is read.

    Raises:
        CannotLook: there is no such Service, or the API does not tell.
    """
    key = None if service is None else quote(service, safe="")
    services: list[Row] | None = []
    routes: list[Row] | None = []
    if not has_services:
        pass
    elif key is None:
        services, routes = await asyncio.gather(api.rows("/services"), api.rows("/routes"))
    else:
        row, routes = await asyncio.gather(api.get(f"/services/{key}"), api.rows(f"/services/{key}/routes"))
        if row is None:
            raise CannotLook(f"no Service `{service}`")
        services = [row]
    upstreams, warnings = await asyncio.gather(api.rows("/upstreams"), api.rows("/warnings"))
    by_name = {str(row.get("name")): row for row in upstreams or []}
    led: dict[object, list[Row]] = {}
    for route in routes or []:
        led.setdefault((route.get("service") or {}).get("id"), []).append(route)
    used = {str(row["host"]) for row in services or [] if row.get("host") in by_name}
    health = dict(zip(used, await asyncio.gather(*(_health(api, by_name[name]) for name in used)), strict=True))
    subjects = [
        Subject(row, led.get(row.get("id"), []), by_name.get(str(row.get("host"))), health.get(str(row.get("host")), []))
        for row in services or []
    ]
    return Configured(subjects, sorted(by_name), warnings)


async def _health(api: AdminApi, upstream: Row) -> list[Row]:
    return await api.rows(f"/upstreams/{upstream['id']}/health") or []
