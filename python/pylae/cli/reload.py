# SPDX-License-Identifier: Apache-2.0
"""Read the settings again and replace control and workers, without losing a request."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pylae.cli import arguments as flags
from pylae.cli import losses, node
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, explain, say, warn
from pylae.settings import Settings
from pylae.supervisor import prefix as prefix_directory

WITHIN_S: Final = 75.0
"""Longer than the supervisor gives a new generation."""


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_conf(parser)
    flags.add_nginx_conf(parser)
    flags.add_force(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    prefix = given_settings.prefix_of(arguments)
    pid = node.running_pid(prefix)
    # Without a file, those of the running gateway hold, and the environment over them.
    arguments.conf = arguments.conf or prefix / ".kong_env"
    arguments.prefix = prefix
    # Secrets are those of the running gateway's environment, which may not be ours.
    settings = Settings.load(arguments.conf, prefix, resolves=False, knows_variables=True)
    for text in settings.misspelt:
        warn(text)
    losses.check(prefix, settings, is_forced=arguments.force)
    prefix_directory.prepare(prefix)
    given_settings.write_prefix(arguments, settings, resolves=False)
    noted = _note(prefix)
    explain(f"sending HUP signal to supervisor running at {pid}")
    node.send(pid, signal.SIGHUP)
    if not node.wait_until(lambda: _note(prefix) != noted, WITHIN_S):
        raise CommandFailed(f"no word from the supervisor at {pid} about the reload")
    outcome = _note(prefix).partition(" ")[2]
    if outcome != "serves":
        raise CommandFailed(outcome)
    say("Pylae reloaded")


def _note(prefix: Path) -> str:
    try:
        return (prefix / "pids" / "generation").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
