# SPDX-License-Identifier: Apache-2.0
"""Stop the gateway if it runs, and start it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli import settings as given_settings
from pylae.cli import start
from pylae.cli.stop import stop
from pylae.cli.talk import CommandFailed, explain


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    start.declare(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    # Settings first: a gateway that could not start again goes on.
    settings = given_settings.load(arguments)
    try:
        stop(Path(settings.prefix))
    except CommandFailed as error:
        explain(str(error))
    start.start(arguments, settings)
