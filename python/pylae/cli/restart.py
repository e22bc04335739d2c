# SPDX-License-Identifier: Apache-2.0
"""Stop the gateway if it runs, and start it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli import arguments as flags
from pylae.cli import losses, node, start
from pylae.cli import settings as given_settings
from pylae.cli.stop import stop
from pylae.cli.talk import CommandFailed, explain, warn


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    start.declare(parser)
    flags.add_force(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    # Settings first: a gateway that could not start again goes on.
    settings = given_settings.load(arguments)
    for text in settings.misspelt:
        warn(text)
    prefix = Path(settings.prefix)
    if node.pid_of(prefix) is not None:
        losses.check(prefix, settings, is_forced=arguments.force)
    try:
        stop(prefix)
    except CommandFailed as error:
        explain(str(error))
    start.start(arguments, settings)
