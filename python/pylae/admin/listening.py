# SPDX-License-Identifier: Apache-2.0
"""Which API answers on which of the sockets that the supervisor opened?"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http import h11_impl
from uvicorn.protocols.http.h11_impl import H11Protocol

from pylae import _core
from pylae.admin import openapi
from pylae.admin.app import Face, router_of
from pylae.admin.crud import Crud
from pylae.admin.endpoints import admin_endpoints, status_endpoints
from pylae.admin.gate import Gate
from pylae.admin.guard import Guard
from pylae.admin.node import Node
from pylae.admin.refusals import Refusals
from pylae.admin.tls import Door, context_of
from pylae.control.control import Control
from pylae.control.draining import Draining
from pylae.control.log import ErrorLog, LogFile
from pylae.control.log_level import LogLevel
from pylae.control.redaction import Secrets
from pylae.node_id import node_id_of
from pylae.sdk.plugin import Plugin
from pylae.settings import Settings

KEEP_ALIVE_S: Final = 75
"""nginx's."""
NGINX_PHRASES: Final = {405: b"Not Allowed", 413: b"Request Entity Too Large"}
"""What nginx calls a status where Python has another phrase."""
OPEN_PATHS: Final = ("/docs",)
"""Of the Admin API, for those who have not shown a token: the page that describes it, and asks for one."""
GRACE_S: Final = 1
"""What requests under way get when the process is told to leave."""


# The table from which uvicorn writes every status line.
h11_impl.STATUS_PHRASES.update(NGINX_PHRASES)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: this process has its own.

    Args:
        config: what to serve, and how.
        context: how to speak TLS; None for plain HTTP.
        refusals: told of TLS clients that are not let in.
    """

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext | None, refusals: Refusals) -> None:
        super().__init__(config)
        self._context = context
        self._refusals = refusals
        self._waiting: set[Door] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens; TLS begins with a door of our own, since uvicorn tells nobody who failed at it."""
        if self._context is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()

        def make() -> asyncio.Protocol:
            made: asyncio.Protocol = H11Protocol(self.config, self.server_state, self.lifespan.state)
            return made

        loop = asyncio.get_running_loop()
        door = partial(Door, make, self._context, self._refusals, self._waiting)
        self.servers = [await loop.create_server(door, sock=one, backlog=self.config.backlog) for one in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what uvicorn does not know of, then the rest."""
        for door in tuple(self._waiting):
            door.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


class Servers:
    """The HTTP servers of this process."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    def add(self, app: ASGIApp, descriptors: Sequence[int], context: ssl.SSLContext | None) -> None:
        """Serves an app on inherited sockets, over TLS when it is said how."""
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = _Server(config, context, self._refusals)
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        task = asyncio.get_running_loop().create_task(server.serve(sockets))
        self._servers.append((server, task))

    async def stop(self) -> None:
        """Ends them all; requests under way get a moment."""
        for server, _ in self._servers:
            server.should_exit = True
        for _, task in self._servers:
            await task


def serve(
    control: Control,
    plugins: Mapping[str, type[Plugin]],
    settings: Settings,
    listeners: Sequence[Mapping[str, Any]],
    shared_fd: int,
    draining: Draining,
    log: ErrorLog,
    log_files: list[LogFile],
) -> Servers:
    """Begins to answer on the sockets of the Admin and the Status API; those of other purposes are left alone.

    The files that have to be opened anew on USR1 are added to `log_files`.
    """
    max_body_bytes = settings.size_bytes("nginx_admin_client_max_body_size")
    prefix = Path(settings.prefix)
    node = Node(
        control,
        plugins,
        settings.as_dict(),
        settings.node_id or node_id_of(prefix),
        _core.Shared(shared_fd),
        shared_fd,
        settings.worker_count,
        max_body_bytes,
        draining,
    )
    has_database = settings.database != "off"
    crud, log_level = Crud(control.database, max_body_bytes), LogLevel(log, control.line)
    endpoints = admin_endpoints(control, crud, node, log_level, log, has_database=has_database)
    endpoints.update(openapi.endpoints(control.catalogue.entities, plugins, lambda: endpoints))
    guards = {
        # No page drives the Status API but its own.
        purpose: Guard(
            settings.admin_gui_url if purpose == "admin" else None,
            [listener["address"] for listener in listeners if listener["purpose"] == purpose],
            settings.admin_hosts,
        )
        for purpose in ("admin", "status")
    }
    refusals = Refusals(log)
    gate = Gate(settings.admin_auth_token, refusals, OPEN_PATHS) if settings.admin_auth_token else None
    secrets = Secrets([*control.catalogue.entities.values(), *(plugin.Config for plugin in plugins.values())])
    faces: dict[str, tuple[ASGIApp, Guard, Gate | None]] = {
        "admin": (router_of(endpoints, log), guards["admin"], gate),
        "status": (router_of(status_endpoints(endpoints, node, has_database=has_database), log), guards["status"], None),
    }
    servers = Servers(refusals)
    for purpose, (router, guard, asks) in faces.items():
        access_log = LogFile(settings.log_path(f"{purpose}_access_log"))
        log_files.append(access_log)
        is_public = purpose == "status"
        face = Face(router, guard, access_log, log, settings.enabled_headers, asks, secrets, is_public=is_public)
        for is_tls in (False, True):
            descriptors = [
                descriptor
                for listener in listeners
                if listener["purpose"] == purpose and ("ssl" in listener["flags"]) is is_tls
                for descriptor in listener["fds"]
            ]
            if descriptors:
                servers.add(face, descriptors, context_of(settings, purpose) if is_tls else None)
    return servers
