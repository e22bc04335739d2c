# SPDX-License-Identifier: Apache-2.0
"""Print the version of the gateway."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace

from pylae import KONG_VERSION, __version__
from pylae.cli.talk import say


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument("-a", "--all", action="store_true", help="also of what it stands on")


def run(arguments: Namespace) -> None:
    """Does it."""
    if not arguments.all:
        say(__version__)
        return
    from pylae import _core  # the data plane is loaded only to ask it

    say(f"Pylae: {__version__}\nKong: {KONG_VERSION} (whose interfaces it keeps)")
    say(f"Python: {platform.python_version()}\ndata plane: {_core.build_profile} build")
