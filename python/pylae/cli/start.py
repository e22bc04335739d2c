# SPDX-License-Identifier: Apache-2.0
"""Start the gateway; returns once every worker serves, or says why not."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, explain, say, warn
from pylae.settings import Settings
from pylae.supervisor import prefix as prefix_directory


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_conf(parser)
    flags.add_nginx_conf(parser)
    flags.add_database(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    settings = given_settings.load(arguments)
    for text in settings.misspelt:
        warn(text)
    start(arguments, settings)


def start(arguments: Namespace, settings: Settings) -> None:
    """Starts the gateway with these settings.

    Raises:
        CommandFailed: it does not serve; none of its processes is left.
        AlreadyRunning: one runs in this prefix.
        PrefixUnusable: the prefix can't be written.
    """
    prefix = Path(settings.prefix)
    prefix_directory.prepare(prefix)
    # Before anything is written: what a running gateway reads must stay as it is.
    lock_fd = prefix_directory.lock(prefix)
    given_settings.write_prefix(arguments, settings)
    command = [sys.executable, "-P", "-m", "pylae.supervisor", "--prefix", str(prefix), "--lock-fd", str(lock_fd)]
    if not settings.is_daemon:
        explain("staying in the foreground")
        fcntl.fcntl(lock_fd, fcntl.F_SETFD, 0)
        os.execv(sys.executable, command)
    _start_in_background(command, lock_fd, settings)
    say("Pylae started")


def _start_in_background(command: list[str], lock_fd: int, settings: Settings) -> None:
    status_fd, its_end = os.pipe()
    error_log = settings.log_path("proxy_error_log") or Path(os.devnull)
    try:
        output = error_log.open("ab")
    except OSError as error:
        raise CommandFailed(f"{error_log} can't be written: {error.strerror}") from error
    with output:
        process = subprocess.Popen(
            [*command, "--status-fd", str(its_end)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock_fd, its_end),
            start_new_session=True,
        )
    os.close(its_end)
    os.close(lock_fd)
    explain(f"supervisor runs at {process.pid}; it logs to {error_log}")
    try:
        with os.fdopen(status_fd, encoding="utf-8", errors="replace") as status:
            outcome = status.read().strip()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if outcome != "ready":
        process.wait()
        raise CommandFailed(outcome or f"the supervisor ended before it could say why; {error_log} may tell")
