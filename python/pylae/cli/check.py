# SPDX-License-Identifier: Apache-2.0
"""Check a settings file; prints one line for each error."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli.talk import say
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
        Settings.load(conf)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    say(f"configuration at {conf} is valid")
