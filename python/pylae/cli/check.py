# SPDX-License-Identifier: Apache-2.0
"""Check a settings file; prints one line for each error."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli.talk import say, warn
from pylae.errors import SettingsError
from pylae.settings import DEFAULT_FILES, Settings


def declare(parser: ArgumentParser) -> None:
    """Its arguments."""
    places = ", ".join(DEFAULT_FILES)
    parser.add_argument("conf", nargs="?", help=f"settings file; else the first that exists of {places}")


def run(arguments: Namespace) -> None:
    """Does it."""
    found = next((place for place in DEFAULT_FILES if Path(place).is_file()), DEFAULT_FILES[0])
    conf = arguments.conf or found
    try:
        settings = Settings.load(conf)
        check_startable(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    for text in settings.misspelt:
        warn(text)
    say(f"configuration at {conf} is valid")


def check_startable(settings: Settings) -> None:
    """Looks at what a start looks at, beyond the settings themselves: plugins, database, declared configuration.

    Raises:
        SettingsError: a gateway would not start with them.
    """
    # Slow to import.
    from pylae.admin.__main__ import strategy_of
    from pylae.control.control import prepared
    from pylae.control.declared import is_declared, read_declared

    catalogue = prepared(settings)[1]
    if settings.database != "off":
        strategy_of(settings, catalogue, 1)
    elif is_declared(settings):
        read_declared(settings, catalogue)
