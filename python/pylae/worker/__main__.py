# SPDX-License-Identifier: Apache-2.0
"""`python -m pylae.worker`: serves requests until it is told to leave. The supervisor starts one per slot.

QUIT: drain, then leave. TERM: leave now. USR1: open the logs anew.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
from pathlib import Path

from pylae import _core
from pylae.errors import PylaeError
from pylae.node_id import node_id_of
from pylae.sdk.host import Host, definition_of
from pylae.sdk.loader import load_plugins
from pylae.settings import Settings
from pylae.vaults import Vaults
from pylae.worker import event_loop
from pylae.worker.data_plane_settings import data_plane_settings, trusted_certificates


def main() -> int:
    """Serves; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pylae.worker", description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--listeners", required=True, help="JSON of what the supervisor listens on")
    parser.add_argument("--index", type=int, required=True, help="our slot")
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--shared-fd", type=int, required=True)
    parser.add_argument("--parent-fd", type=int, required=True, help="closes when the supervisor is gone")
    parser.add_argument("--ready-fd", type=int, help="gets one byte when we serve")
    flags = parser.parse_args()
    try:
        serve(flags)
    except PylaeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def serve(flags: argparse.Namespace) -> None:
    """Loads plugins and runs the data plane until it has drained."""
    settings = Settings.from_prefix(flags.prefix)
    host = Host(
        vaults=Vaults.of(settings),
        check_interval_s=settings.vaults_check_interval,
        trusted_certificates=trusted_certificates(settings.lua_ssl_trusted_certificate),
        node_id=settings.node_id or node_id_of(flags.prefix),
    )
    plugins = [plugin(host) for plugin in load_plugins(settings).values()]
    gateway = _core.Gateway(
        settings=json.dumps(data_plane_settings(settings)),
        listeners=flags.listeners,
        worker_index=flags.index,
        generation=flags.generation,
        shared_fd=flags.shared_fd,
        parent_fd=flags.parent_fd,
        plugins=[definition_of(plugin) for plugin in plugins],
        ready_fd=flags.ready_fd,
    )
    host.connect(gateway)

    def reopen_logs() -> None:
        gateway.reopen_logs()
        _reopen_output(settings.log_path("proxy_error_log") or Path(os.devnull))

    event_loop.run(
        gateway,
        start=lambda: host.start(plugins),
        stop=lambda: host.stop(plugins),
        signals={
            signal.SIGQUIT: gateway.drain,
            # Nothing is to be saved: the kernel closes what is open, as for nginx's fast shutdown.
            signal.SIGTERM: lambda: os._exit(0),
            signal.SIGUSR1: reopen_logs,
        },
    )


def _reopen_output(error_log: Path) -> None:
    """What Python itself writes goes to `error.log` too, unless somebody watches it on a terminal or pipe."""
    try:
        if stat.S_ISREG(os.fstat(2).st_mode):
            descriptor = os.open(error_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            for output in (1, 2):
                os.dup2(descriptor, output)
            os.close(descriptor)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
