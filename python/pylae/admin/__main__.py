# SPDX-License-Identifier: Apache-2.0
"""`python -m pylae.admin`: the control process. The supervisor starts one, and another when it dies.

TERM, QUIT, INT: leave. USR1: open the logs anew.

Workers wait for the configuration, so whatever is not needed for that (Starlette, uvicorn) is imported after the
line to them is open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylae import _core
from pylae.control.control import Control, prepared
from pylae.control.draining import Draining
from pylae.control.explain import Limits
from pylae.control.log import ErrorLog, LogFile
from pylae.control.run import part_of_run
from pylae.database.dao import Catalogue
from pylae.database.strategies import Strategy
from pylae.errors import PylaeError, SettingsError
from pylae.node_id import database_id_of, node_id_of
from pylae.settings import Settings
from pylae.vaults import Vaults

if TYPE_CHECKING:
    from pylae.admin.listening import Servers


def main() -> int:
    """Controls; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pylae.admin", description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--listeners", required=True, help="JSON of what the supervisor listens on")
    parser.add_argument("--shared-fd", type=int, required=True)
    parser.add_argument("--parent-fd", type=int, required=True, help="closes when the supervisor is gone")
    parser.add_argument("--generation", type=int, default=1, help="grows with every reload")
    flags = parser.parse_args()
    try:
        settings = Settings.from_prefix(flags.prefix)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    log = ErrorLog(LogFile(settings.log_path("admin_error_log")), settings.log_level)
    try:
        asyncio.run(control(settings, flags, log))
    except PylaeError as error:
        log("emerg", str(error))
        return 1
    return 0


def strategy_of(settings: Settings, catalogue: Catalogue, generation: int) -> Strategy:
    """The database that the settings ask for, or what takes its place.

    Raises:
        SettingsError: there is no such one yet.
    """
    prefix = Path(settings.prefix)
    if settings.database == "off":
        from pylae.control.declared import is_declared, read_declared
        from pylae.database.strategies.off import FILE_NAME, OffStrategy

        node_id = settings.node_id or node_id_of(prefix)
        read_text = partial(read_declared, settings, catalogue) if is_declared(settings) else None
        return OffStrategy(prefix / FILE_NAME, catalogue.tables, database_id_of(node_id), part_of_run(generation), read_text)
    if settings.database != "sqlite":
        raise SettingsError(f"`database = {settings.database}` is not there yet; hint: `database = sqlite`")
    from pylae.database.strategies.sqlite import SqliteStrategy

    return SqliteStrategy(prefix / "pylae.db", catalogue.tables)


async def control(settings: Settings, flags: argparse.Namespace, log: ErrorLog) -> None:
    """Runs until it is told to leave, or the supervisor is gone."""
    leaving = asyncio.Event()
    loop = asyncio.get_running_loop()
    log_files = [log.file]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, leaving.set)
    loop.add_signal_handler(signal.SIGUSR1, _reopen, log_files)
    loop.add_reader(flags.parent_fd, _watch_parent, flags.parent_fd, leaving)

    plugins, catalogue = prepared(settings)
    strategy = strategy_of(settings, catalogue, flags.generation)
    running = Control(
        strategy,
        catalogue,
        plugins,
        flags.prefix / "sockets" / "control.sock",
        log,
        Vaults.of(settings),
        _core.Shared(flags.shared_fd),
        Limits(settings.explain_keep_count, settings.explain_keep_s, settings.size_bytes("explain_keep_size")),
        settings.admin_url,
        (settings.router_flavor, settings.router_ranking),
    )
    await running.start()

    # In a thread of its own: workers that say hello meanwhile are answered.
    serve = await asyncio.to_thread(_import_serve)
    draining = Draining(flags.prefix / "spool" / "draining", part_of_run(flags.generation), log)
    servers = serve(running, plugins, settings, json.loads(flags.listeners), flags.shared_fd, draining, log, log_files)
    try:
        await leaving.wait()
    finally:
        await servers.stop()
        await running.stop()


def _import_serve() -> Callable[..., Servers]:
    from pylae.admin.listening import serve

    return serve


def _reopen(log_files: list[LogFile]) -> None:
    for file in log_files:
        file.reopen()


def _watch_parent(descriptor: int, leaving: asyncio.Event) -> None:
    try:
        gone = os.read(descriptor, 1) == b""
    except BlockingIOError:
        return
    if gone:
        asyncio.get_running_loop().remove_reader(descriptor)
        leaving.set()


if __name__ == "__main__":
    sys.exit(main())
