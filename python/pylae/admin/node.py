# SPDX-License-Identifier: Apache-2.0
"""What does the Admin API say about the node itself, its plugins and its schemas?"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from pylae import KONG_VERSION, __version__
from pylae.admin.answers import Refusal, answer, empty, message, not_found
from pylae.admin.bodies import read_values
from pylae.admin.crud import Handlers, parameter
from pylae.control.control import Control
from pylae.control.draining import Draining
from pylae.database.dao import ReadDao
from pylae.database.strategies.off.strategy import EMPTY_HASH
from pylae.errors import StrategyUnavailable
from pylae.schema import Schema
from pylae.sdk.plugin import Plugin

LUA_VERSION: Final = "LuaJIT 2.1.20231117"
"""There is no Lua here: clients of Kong read the field."""


class Statistics(Protocol):
    """The part of `pylae._core.Shared` that `/status` shows."""

    def statistics(self) -> Mapping[str, int]:
        """Counts over all workers."""
        ...


MEMORY_UNITS: Final = {"b": 0, "k": 1, "m": 2, "g": 3}
"""Powers of 1024."""
MAX_SCALE: Final = 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES: Final = 512
"""Of `st_blocks`, whatever the file system's own blocks are (stat(2))."""

SERVER_COUNTS: Final = (
    "connections_accepted",
    "connections_active",
    "connections_handled",
    "connections_reading",
    "connections_waiting",
    "connections_writing",
    "total_requests",
)


class Node:
    """Handlers of the endpoints that are not of an entity."""

    def __init__(
        self,
        control: Control,
        plugins: Mapping[str, type[Plugin]],
        configuration: Mapping[str, Any],
        node_id: str,
        shared: Statistics,
        shared_fd: int,
        worker_count: int,
        max_body_bytes: int,
        draining: Draining,
    ) -> None:
        self._control = control
        self._plugins = plugins
        self._configuration = configuration
        self.node_id = node_id
        self._shared = shared
        self._shared_fd = shared_fd
        self.worker_count = worker_count
        self.has_new_dns_client = bool(configuration.get("new_dns_client"))
        self.max_body_bytes = max_body_bytes
        self._supervisor_pid = os.getppid()
        self._draining = draining

    def endpoints(self, paths: Callable[[], list[str]]) -> dict[str, Handlers]:
        """Handlers by path.

        Args:
            paths: every path of the whole API, for `/endpoints`.
        """

        async def endpoints(request: Request) -> Response:
            del request
            # So that a path stands before those below it: `/` sorts before any other character.
            return answer(200, {"data": sorted(paths(), key=lambda path: path.replace("/", "\0"))})

        return {
            "/": {"GET": self._root},
            "/endpoints": {"GET": endpoints},
            "/plugins/enabled": {"GET": self._enabled_plugins},
            "/plugins/schema/{name}": {"GET": self._config_schema},
            "/schemas/plugins/validate": {"POST": self._validate_plugin},
            "/schemas/plugins/{name}": {"GET": self._plugin_schema},
            "/schemas/vaults/validate": {"POST": self._validate_vault},
            "/schemas/vaults/{name}": {"GET": self._vault_schema},
            "/schemas/{db_entity_name}/validate": {"POST": self._validate},
            "/schemas/{name}": {"GET": self._schema},
            "/status": {"GET": self.status},
            "/timers": {"GET": self._timers},
        }

    def status_endpoints(self) -> dict[str, Handlers]:
        """Handlers by path of the Status API."""
        return {
            "/status": {"GET": self.status},
            "/status/ready": {"GET": self.ready, "POST": self.drain},
        }

    # === figures, also for metrics ===

    def statistics(self) -> Mapping[str, int]:
        """Counts over all workers."""
        return self._shared.statistics()

    def workers_memory(self) -> list[tuple[int, int]]:
        """Process id and resident bytes of each worker."""
        found = []
        for worker in self._control.line.workers():
            resident_bytes = _resident_bytes(worker.pid)
            if resident_bytes is not None:
                found.append((worker.pid, resident_bytes))
        return found

    def shared_memory(self) -> list[tuple[str, int, int]]:
        """Name, used bytes and size in bytes of each segment that all workers share."""
        segment = os.fstat(self._shared_fd)
        return [("kong", min(segment.st_blocks * _BLOCK_BYTES, segment.st_size), segment.st_size)]

    # === the node ===

    async def _root(self, request: Request) -> Response:
        del request
        names = await self._enabled_in_cluster()
        body = {
            "tagline": "Welcome to Pylae",
            "version": KONG_VERSION,
            "pylae_version": __version__,
            "edition": "community",
            "hostname": socket.gethostname(),
            "node_id": self.node_id,
            "timers": {"running": 0, "pending": 0},
            "plugins": {
                "available_on_server": {
                    name: {"version": plugin.version, "priority": plugin.priority}
                    for name, plugin in sorted(self._plugins.items())
                },
                "enabled_in_cluster": sorted(names),
            },
            "lua_version": LUA_VERSION,
            "configuration": self._configuration,
            "pids": {
                "master": self._supervisor_pid,
                "workers": [worker.pid for worker in self._control.line.workers()],
            },
        }
        return answer(200, body)

    async def _enabled_in_cluster(self) -> set[str]:
        def work(dao: ReadDao) -> set[str]:
            return {row["name"] for row in dao.each("plugins") if row["enabled"]}

        try:
            return await self._control.database.read(work)
        except StrategyUnavailable:
            return set()

    async def status(self, request: Request) -> Response:
        """How the node does, and which configuration each worker serves.

        Raises:
            Refusal: 400, there is no such unit or scale.
        """
        unit, scale = _unit_and_scale(request.query_params)
        counts = self.statistics()
        feed = self._control.feed
        body = {
            **await self._kept_in(),
            "memory": {
                "lua_shared_dicts": {
                    name: {
                        "allocated_slabs": _in_unit(used_bytes, unit, scale),
                        "capacity": _in_unit(total_bytes, unit, scale),
                    }
                    for name, used_bytes, total_bytes in self.shared_memory()
                },
                "workers_lua_vms": [
                    {"http_allocated_gc": _in_unit(resident_bytes, unit, scale), "pid": pid}
                    for pid, resident_bytes in self.workers_memory()
                ],
            },
            "server": {name: counts.get(name, 0) for name in SERVER_COUNTS},
            "pylae": {
                "version": None if feed is None else feed.version,
                "workers": [
                    {
                        "index": worker.index,
                        "generation": worker.generation,
                        "pid": worker.pid,
                        "version": worker.version,
                    }
                    for worker in self._control.line.workers()
                ],
            },
        }
        return answer(200, body)

    async def ready(self, request: Request) -> Response:
        """Whether every worker serves a configuration."""
        del request
        if self._draining.has_begun:
            return message(503, "draining")
        off = self._control.off
        if self._control.feed is None:
            no_config = "no configuration available (configuration hash is not initialized)"
            return message(503, "failed to connect to database" if off is None else no_config)
        if off is not None and off.holding.hash == EMPTY_HASH:
            return message(503, "no configuration available (empty configuration present)")
        serving = {worker.index for worker in self._control.line.workers() if worker.version is not None}
        if len(serving) < self.worker_count:
            return message(
                503,
                f"router builds not yet complete, router ready in {len(serving)} of {self.worker_count} workers",
            )
        return message(200, "ready")

    async def drain(self, request: Request) -> Response:
        """From now on the node is not ready, so that load balancers send their requests elsewhere; it serves on."""
        values, _ = await read_values(request, self.max_body_bytes)
        if values.get("status") != "draining":
            return message(400, "status must be draining")
        self._draining.begin()
        return empty()

    async def _timers(self, request: Request) -> Response:
        del request
        # Whoever answers is no worker; Kong's clients look for the shape.
        return answer(200, {"worker": {"id": 0, "count": self.worker_count}, "stats": {}})

    async def _kept_in(self) -> dict[str, Any]:
        """How the database does; without one, which configuration there is."""
        off = self._control.off
        if off is None:
            return {"database": {"reachable": await self.is_reachable()}}
        return {"configuration_hash": off.holding.hash}

    async def is_reachable(self) -> bool:
        """Whether the database answers."""
        try:
            await self._control.database.read(ReadDao.sequence)
        except StrategyUnavailable:
            return False
        return True

    async def _enabled_plugins(self, request: Request) -> Response:
        del request
        return answer(200, {"enabled_plugins": sorted(self._plugins)})

    async def _schema(self, request: Request) -> Response:
        name = parameter(request, "name")
        if name not in self._control.catalogue.entities:
            return message(404, f"No entity named '{name}'")
        return answer(200, self._control.catalogue.schema(name).kong_json())

    async def _plugin_schema(self, request: Request) -> Response:
        schema = self._variant("plugins", parameter(request, "name"), "plugin")
        return answer(200, _of_plugin(schema.kong_json()))

    async def _vault_schema(self, request: Request) -> Response:
        return answer(200, self._variant("vaults", parameter(request, "name"), "vault").kong_json())

    async def _config_schema(self, request: Request) -> Response:
        schema = self._variant("plugins", parameter(request, "name"), "plugin")
        for declared in schema.kong_json()["fields"]:
            if "config" in declared:
                return answer(200, {"fields": declared["config"].get("fields", [])})
        return not_found()

    def _variant(self, table: str, name: str, kind: str) -> Schema:
        """The rules for the rows of a type.

        Raises:
            Refusal: 404, there is no such type.
        """
        schema = self._control.catalogue.schema(table).variant(name) if table in self._control.catalogue.entities else None
        if schema is None:
            raise Refusal(message(404, f"No {kind} named '{name}'"))
        return schema

    async def _validate(self, request: Request) -> Response:
        name = parameter(request, "db_entity_name")
        if name not in self._control.catalogue.entities:
            return message(404, f"No entity named '{name}'")
        await self._validated(request, name)
        return message(200, "schema validation successful")

    async def _validate_plugin(self, request: Request) -> Response:
        row = await self._validated(request, "plugins")
        self._plugins[row["name"]].check_config(row["config"])
        return message(200, "schema validation successful")

    async def _validate_vault(self, request: Request) -> Response:
        await self._validated(request, "vaults")
        return message(200, "schema validation successful")

    async def _validated(self, request: Request, table: str) -> dict[str, Any]:
        values, is_form = await read_values(request, self.max_body_bytes)
        schema = self._control.catalogue.schema(table)
        return schema.insert(schema.process_form(values) if is_form else values)


def _of_plugin(schema: dict[str, Any]) -> dict[str, Any]:
    """What of a plugin's schema is the plugin's own."""
    own = ("consumer", "route", "service", "protocols", "config")
    fields = [declared for declared in schema["fields"] if next(iter(declared)) in own]
    return {**schema, "fields": fields}


def _resident_bytes(pid: int) -> int | None:
    """What a process holds of memory; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None


def _unit_and_scale(query: Mapping[str, str]) -> tuple[str, int]:
    """In which unit memory is shown, and with how many decimals.

    Raises:
        Refusal: 400.
    """
    unit = query.get("unit", "m")
    if unit.lower() not in MEMORY_UNITS:
        raise Refusal(message(400, f"invalid unit '{unit}' (expected 'b/B', 'k/K', 'm/M', or 'g/G')"))
    scale = query.get("scale", "2")
    if not (scale.isascii() and scale.isdigit() and int(scale) <= MAX_SCALE):
        raise Refusal(message(400, f"invalid scale '{scale}' (expected a whole number from 0 to {MAX_SCALE})"))
    return unit.lower(), int(scale)


def _in_unit(size_bytes: int, unit: str, scale: int) -> str | int:
    """A size as Kong shows it: `4.25 MiB`; bytes are a number."""
    power = MEMORY_UNITS[unit]
    return f"{size_bytes / 1024**power:.{scale}f} {unit.upper()}iB" if power else size_bytes
