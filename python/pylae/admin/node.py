# SPDX-License-Identifier: Apache-2.0
"""What does the Admin API say about the node itself, its plugins and its schemas?"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from pylae import KONG_VERSION, __version__
from pylae.admin.answers import answer, message, not_found
from pylae.admin.bodies import read_values
from pylae.admin.crud import Handlers
from pylae.control.control import Control
from pylae.database.dao import ReadDao
from pylae.errors import StrategyUnavailable
from pylae.sdk.plugin import Plugin

LUA_VERSION: Final = "LuaJIT 2.1.20231117"
"""There is no Lua here: clients of Kong read the field."""


class Statistics(Protocol):
    """The part of `pylae._core.Shared` that `/status` shows."""

    def statistics(self) -> Mapping[str, int]:
        """Counts over all workers."""
        ...


SERVER_COUNTS: Final = (
    "connections_accepted",
    "connections_active",
    "connections_handled",
    "connections_reading",
    "connections_waiting",
    "connections_writing",
    "total_requests",
)


def node_id_of(prefix: Path) -> str:
    """The node's id, made once per prefix."""
    path = prefix / "kong.id"
    try:
        found = path.read_text().strip()
        return str(uuid.UUID(found))
    except (OSError, ValueError):
        made = str(uuid.uuid4())
    try:
        path.touch(0o600)
        path.write_text(made)
    except OSError:
        # A full disk: the id lasts as long as this process.
        return made
    return made


class Node:
    """Handlers of the endpoints that are not of an entity."""

    def __init__(
        self,
        control: Control,
        plugins: Mapping[str, type[Plugin]],
        configuration: Mapping[str, Any],
        node_id: str,
        statistics: Statistics,
        worker_count: int,
        max_body_bytes: int,
    ) -> None:
        self._control = control
        self._plugins = plugins
        self._configuration = configuration
        self._node_id = node_id
        self._statistics = statistics
        self._worker_count = worker_count
        self._max_body_bytes = max_body_bytes
        self._supervisor_pid = os.getppid()

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
            "/schemas/{name}/validate": {"POST": self._validate},
            "/schemas/{name}": {"GET": self._schema},
            "/status": {"GET": self.status},
            "/upstreams/{upstreams}/targets/all": {"GET": self._all_targets},
        }

    async def _root(self, request: Request) -> Response:
        del request
        names = await self._enabled_in_cluster()
        body = {
            "tagline": "Welcome to Pylae",
            "version": KONG_VERSION,
            "pylae_version": __version__,
            "edition": "community",
            "hostname": socket.gethostname(),
            "node_id": self._node_id,
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
        """How the node does, and which configuration each worker serves."""
        del request
        counts = self._statistics.statistics()
        feed = self._control.feed
        body = {
            "database": {"reachable": await self._is_reachable()},
            "memory": {"lua_shared_dicts": {}, "workers_lua_vms": []},
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
        if self._control.feed is None:
            return message(503, "failed to connect to database")
        serving = {worker.index for worker in self._control.line.workers() if worker.version is not None}
        if len(serving) < self._worker_count:
            return message(
                503,
                f"router builds not yet complete, router ready in {len(serving)} of {self._worker_count} workers",
            )
        return message(200, "ready")

    async def _is_reachable(self) -> bool:
        try:
            await self._control.database.read(ReadDao.sequence)
        except StrategyUnavailable:
            return False
        return True

    async def _enabled_plugins(self, request: Request) -> Response:
        del request
        return answer(200, {"enabled_plugins": sorted(self._plugins)})

    async def _schema(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._control.catalogue.entities:
            return message(404, f"No entity named '{name}'")
        return answer(200, self._control.catalogue.schema(name).kong_json())

    async def _plugin_schema(self, request: Request) -> Response:
        name = request.path_params["name"]
        schema = self._control.catalogue.schema("plugins").variant(name)
        if schema is None:
            return message(404, f"No plugin named '{name}'")
        return answer(200, _of_plugin(schema.kong_json()))

    async def _config_schema(self, request: Request) -> Response:
        name = request.path_params["name"]
        schema = self._control.catalogue.schema("plugins").variant(name)
        if schema is None:
            return message(404, f"No plugin named '{name}'")
        for declared in schema.kong_json()["fields"]:
            if "config" in declared:
                return answer(200, {"fields": declared["config"].get("fields", [])})
        return not_found()

    async def _validate(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._control.catalogue.entities:
            return message(404, f"No entity named '{name}'")
        await self._validated(request, name)
        return message(200, "schema validation successful")

    async def _validate_plugin(self, request: Request) -> Response:
        row = await self._validated(request, "plugins")
        self._plugins[row["name"]].check_config(row["config"])
        return message(200, "schema validation successful")

    async def _validated(self, request: Request, table: str) -> dict[str, Any]:
        values, is_form = await read_values(request, self._max_body_bytes)
        schema = self._control.catalogue.schema(table)
        return schema.insert(schema.process_form(values) if is_form else values)

    async def _all_targets(self, request: Request) -> Response:
        key = request.path_params["upstreams"]

        def work(dao: ReadDao) -> list[dict[str, Any]] | None:
            upstream = dao.select("upstreams", key)
            return None if upstream is None else dao.page("targets", 1000, where={"upstream": upstream["id"]}).rows

        rows = await self._control.database.read(work)
        return not_found() if rows is None else answer(200, {"data": rows, "next": None})


def _of_plugin(schema: dict[str, Any]) -> dict[str, Any]:
    """What of a plugin's schema is the plugin's own."""
    own = ("consumer", "route", "service", "protocols", "config")
    fields = [declared for declared in schema["fields"] if next(iter(declared)) in own]
    return {**schema, "fields": fields}
