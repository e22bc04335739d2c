# SPDX-License-Identifier: Apache-2.0
"""Which API answers on which of the sockets that the supervisor opened?"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from pylae import _core
from pylae.admin.app import Face, router_of
from pylae.admin.crud import Crud, Handlers
from pylae.admin.guard import Guard
from pylae.admin.node import Node, node_id_of
from pylae.control.control import Control
from pylae.control.log import ErrorLog, LogFile
from pylae.sdk.plugin import Plugin
from pylae.settings import Settings

KEEP_ALIVE_S: Final = 75
"""nginx's."""
GRACE_S: Final = 1
"""What requests under way get when the process is told to leave."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


class Servers:
    """The HTTP servers of this process."""

    def __init__(self) -> None:
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    def add(self, app: ASGIApp, descriptors: Sequence[int], certificate: tuple[Path, Path] | None) -> None:
        """Serves an app on inherited sockets, over TLS when there is a certificate with its key."""
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
            ssl_certfile=None if certificate is None else certificate[0],
            ssl_keyfile=None if certificate is None else certificate[1],
        )
        server = _Server(config)
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
        settings.worker_count,
        max_body_bytes,
    )
    endpoints: dict[str, Handlers] = Crud(control.database, max_body_bytes).endpoints()
    endpoints.update(node.endpoints(lambda: list(endpoints)))
    admin_listeners = [listener for listener in listeners if listener["purpose"] == "admin"]
    guard = Guard(settings.admin_gui_url, [one["address"] for one in admin_listeners], settings.admin_hosts)
    faces: dict[str, tuple[ASGIApp, Guard | None]] = {
        "admin": (router_of(endpoints, log), guard),
        "status": (router_of({"/status": {"GET": node.status}, "/status/ready": {"GET": node.ready}}, log), None),
    }
    servers = Servers()
    for purpose, (router, judge) in faces.items():
        access_log = LogFile(settings.log_path(f"{purpose}_access_log"))
        log_files.append(access_log)
        face = Face(router, judge, access_log, log, settings.enabled_headers)
        for is_tls in (False, True):
            descriptors = [
                descriptor
                for listener in listeners
                if listener["purpose"] == purpose and ("ssl" in listener["flags"]) is is_tls
                for descriptor in listener["fds"]
            ]
            if descriptors:
                servers.add(face, descriptors, _certificate(settings, purpose) if is_tls else None)
    return servers


def _certificate(settings: Settings, purpose: str) -> tuple[Path, Path]:
    """Certificate and key: those of the settings, else the ones the supervisor made."""
    certificates, keys = getattr(settings, f"{purpose}_ssl_cert"), getattr(settings, f"{purpose}_ssl_cert_key")
    if certificates and keys:
        return Path(certificates[0]), Path(keys[0])
    folder = Path(settings.prefix) / "ssl"
    return folder / f"{purpose}-kong-default.crt", folder / f"{purpose}-kong-default.key"
