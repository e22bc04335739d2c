# SPDX-License-Identifier: Apache-2.0
"""Make, check, compare, import and export declarative configurations.

init [FILE]       write an example (./kong.yml)
parse FILE        check a file; - is standard input
diff FILE         print what would change if the file were imported, or loaded by a gateway without a database
db_import FILE    store what a file declares in the database, all of it or nothing
db_export [FILE]  write the database as a file (./kong.yml)
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, say

if TYPE_CHECKING:
    from pylae.cli.declared import Place
    from pylae.declarative.document import Document
    from pylae.errors import InvalidDeclarativeConfig

DEFAULT_FILE: Final = "kong.yml"
STDIN: Final = "-"
"""Stands for a file that is read from standard input."""
DIFFERS: Final = 2
"""Exit code of `diff --non-zero-exit-code` when something would change."""
EXPECTED: Final = "expected a declarative configuration file; see `pylae config --help`"
_FILE_MODE: Final = 0o600

EXAMPLE: Final = """\
# A declarative configuration. What begins with an underscore says how to read the rest.
_format_version: "3.0"
_transform: true

# Each list is a kind of entity; what belongs to an entity may stand inside it.
#
# services:
# - name: example-service
#   url: http://example.com
#   routes:
#   - name: example-route
#     paths:
#     - /example
#   plugins:
#   - name: key-auth
#
# consumers:
# - username: example-consumer
#   keyauth_credentials:
#   - key: example-key
#
# An entity may also stand in a list of its own and name the one it belongs to.
#
# plugins:
# - name: rate-limiting
#   route: example-route
#   config:
#     minute: 5
#     policy: local
"""


def declare(parser: ArgumentParser) -> None:
    """Its arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=list(ACTIONS), help="what to do")
    parser.add_argument("file", nargs="?", metavar="FILE", help="a declarative configuration")
    parser.add_argument("--non-zero-exit-code", action="store_true", help="diff: exit with 2 when something would change")
    flags.add_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    ACTIONS[arguments.action](arguments)


def init(arguments: Namespace) -> None:
    """Writes an example."""
    _write(Path(arguments.file or DEFAULT_FILE), EXAMPLE, 0o644)


def parse(arguments: Namespace) -> None:
    """Checks a file."""
    _flattened(_place(arguments), _read(arguments))
    say("parse successful")


def diff(arguments: Namespace) -> None:
    """Prints what a file would change."""
    from pylae.cli.differing import show
    from pylae.cli.progress import Bar
    from pylae.declarative.diff import differences

    place = _place(arguments)
    text = _read(arguments)
    document = _parsed(text)
    with place.look() as reader:
        with Bar("checking") as bar:
            try:
                present = reader if place.has_database else None
                wanted = document.flatten(place.catalogue, present=present, hide_secrets=True, progress=bar.show)
            except place.invalid as error:
                raise _failed(error, document) from error
        with Bar("comparing") as bar:
            count = show(differences(reader, wanted, place.catalogue, bar.show), keeps_others=place.has_database)
    if count and arguments.non_zero_exit_code:
        raise SystemExit(DIFFERS)


def db_import(arguments: Namespace) -> None:
    """Stores what a file declares."""
    from pylae.errors import DatabaseError

    place = _place(arguments)
    if not place.has_database:
        raise CommandFailed(
            "'pylae config db_import' only works with a database.\n"
            "hint: without one, set `declarative_config` to the file, or send it to POST /config"
        )
    text = _read(arguments)
    # The text that was looked at, whatever the file holds by now.
    _flattened(place, text)
    say("parse successful, beginning import")
    try:
        place.store(text)
    except DatabaseError as error:
        raise CommandFailed(f"Failed importing:\n{error.message}") from error
    say("import successful")


def db_export(arguments: Namespace) -> None:
    """Writes the database as a file."""
    from pylae.declarative import dump

    path = Path(arguments.file or DEFAULT_FILE)
    if path.exists():
        raise _exists(path)
    place = _place(arguments)
    with place.look() as reader:
        _write(path, dump(reader, place.catalogue), _FILE_MODE)


ACTIONS: Final = {"init": init, "parse": parse, "diff": diff, "db_import": db_import, "db_export": db_export}


def _place(arguments: Namespace) -> Place:
    """The gateway that the arguments speak of.

    Raises:
        CommandFailed: there is no file to speak of.
    """
    if arguments.file is None and arguments.action != "db_export":
        raise CommandFailed(EXPECTED)
    from pylae.cli.declared import Place

    # What stands in a prefix is that of the gateway that runs there, whatever this command's environment says.
    is_about_file = arguments.action == "parse"
    return Place(given_settings.load(arguments) if is_about_file else given_settings.as_running(arguments))


def _read(arguments: Namespace) -> bytes:
    if arguments.file == STDIN:
        return b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return Path(arguments.file).read_bytes()
    except OSError as error:
        raise CommandFailed(f"Failed parsing:\n{arguments.file}: {error.strerror}") from error


def _parsed(text: bytes) -> Document:
    from pylae.declarative import parse as parse_text
    from pylae.errors import InvalidDeclarativeConfig

    try:
        return parse_text(text)
    except InvalidDeclarativeConfig as error:
        raise _failed(error, None) from error


def _flattened(place: Place, text: bytes) -> None:
    """Looks at the whole text.

    Raises:
        CommandFailed: with all that is wrong.
    """
    from pylae.cli.progress import Bar

    document = _parsed(text)
    with Bar("checking") as bar:
        try:
            document.flatten(place.catalogue, hide_secrets=True, progress=bar.show)
        except place.invalid as error:
            raise _failed(error, document) from error


def _failed(error: InvalidDeclarativeConfig, document: Document | None) -> CommandFailed:
    from pylae.declarative.faults import shown

    fields = error.fields or {}
    if document is None:
        return CommandFailed("Failed parsing:\n" + "\n".join(str(text) for text in fields.values()))
    return CommandFailed(f"Failed parsing:\n{shown(fields, lines=document.lines(fields))}")


def _write(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise CommandFailed(f"{path} can't be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException as error:
        # Half a file would be taken for a whole one.
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CommandFailed(f"{path} can't be written: {error.strerror}") from error
        raise


def _exists(path: Path) -> CommandFailed:
    return CommandFailed(f"{path} already exists.\nWill not overwrite it.")
