# SPDX-License-Identifier: Apache-2.0
"""`pylae migrations`: in which shape is the database, and how does it get today's?

bootstrap  make the database, unless it is there, and bring it up to date
up         the same: a start does it, too
finish     the same: nothing is left to be done later
list       print what was executed and what would be
status     print that as JSON
reset      empty the database of a gateway that does not run
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, say
from pylae.supervisor import prefix as prefix_directory

if TYPE_CHECKING:
    from pylae.database.dao import Catalogue
    from pylae.database.strategies.sqlite.state import State

ACTIONS: Final = ("bootstrap", "up", "finish", "list", "status", "reset")
NEEDS_BOOTSTRAP: Final = 3
NEW_MIGRATIONS: Final = 5
"""Kong's exit codes; 4, pending migrations, does not occur: no step is done by halves."""
NO_DATABASE: Final = "there is no database, and nothing to migrate: database = off"
NOT_MADE: Final = "Database needs bootstrapping; run 'pylae migrations bootstrap', or start the gateway, which does it"


@dataclass(frozen=True)
class File:
    """The database of a prefix."""

    prefix: Path
    path: Path
    catalogue: Catalogue

    def state(self) -> State:
        """Where it stands."""
        from pylae.database.strategies.sqlite.state import state_of

        return state_of(self.path, self.catalogue.tables)


def declare(parser: ArgumentParser) -> None:
    """Its arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("-y", "--yes", action="store_true", help="reset: do not ask")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors and the status")
    parser.add_argument("-f", "--force", action="store_true", help="without effect: what was executed is not executed again")
    flags.add_timeouts(parser)
    flags.add_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    settings = given_settings.load(arguments)
    tell = _silent if arguments.quiet else say
    if settings.database == "off":
        _without_database(arguments.action, is_quiet=arguments.quiet)
        return
    # Slow to import.
    from pylae.admin.__main__ import strategy_of
    from pylae.cli.declared import DATABASE
    from pylae.control.control import prepared

    catalogue = prepared(settings)[1]
    strategy = strategy_of(settings, catalogue, 1)
    prefix = Path(settings.prefix)
    file = File(prefix, prefix / DATABASE, catalogue)
    if arguments.action == "status":
        _status(file.state())
    elif arguments.action == "list":
        _list(file.state(), is_quiet=arguments.quiet)
    elif arguments.action == "reset":
        if not _is_sure(is_given=arguments.yes):
            tell("cancelled")
            return
        _reset(file)
        tell("Database successfully reset")
    else:
        before = file.state()
        if not before.needs_bootstrap and not before.new:
            tell("Database is already up-to-date")
            return
        prefix_directory.prepare(prefix)
        try:
            strategy.open()
        finally:
            strategy.close()
        _tell_done(before, file.state(), is_quiet=arguments.quiet)


def _silent(_: str) -> None:
    """Tells nobody."""


def _without_database(action: str, *, is_quiet: bool) -> None:
    if action == "reset":
        raise CommandFailed(NO_DATABASE)
    if action == "status":
        from pylae.database.strategies.sqlite.state import FIRST, State

        _status(State((FIRST,)))
    if not is_quiet:
        sys.stderr.write(f"{NO_DATABASE}\n")


def _tell_done(before: State, after: State, *, is_quiet: bool) -> None:
    if is_quiet:
        return
    done = [name for name in after.executed if name not in before.executed] + list(before.new)
    for name in dict.fromkeys(done):
        say(f"migrated up to: {name} (executed)")
    say("Database is up-to-date")


def _list(state: State, *, is_quiet: bool) -> None:
    if state.needs_bootstrap:
        if not is_quiet:
            say(NOT_MADE)
        raise SystemExit(NEEDS_BOOTSTRAP)
    if not is_quiet:
        say(f"Executed migrations:\ncore: {', '.join(state.executed)}")
        if state.new:
            say(f"\nNew migrations available:\ncore: {', '.join(state.new)}\n\nRun 'pylae migrations up' to proceed")
    if state.new:
        raise SystemExit(NEW_MIGRATIONS)


def _status(state: State) -> None:
    import msgspec

    shown = {
        "needs_bootstrap": state.needs_bootstrap,
        "executed_migrations": list(state.executed),
        "pending_migrations": [],
        "new_migrations": list(state.new),
    }
    say(msgspec.json.encode(shown).decode())
    if state.needs_bootstrap:
        raise SystemExit(NEEDS_BOOTSTRAP)


def _is_sure(*, is_given: bool) -> bool:
    if is_given:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise CommandFailed("not a tty: invoke 'reset' non-interactively with the --yes flag")
    try:
        answer = input("> Are you sure? This operation is irreversible. [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _reset(file: File) -> None:
    """Takes the files away; the next start makes new ones.

    Raises:
        CommandFailed: there is nothing to take away, or it can't be.
        AlreadyRunning: a gateway has them open.
    """
    if not file.path.exists():
        raise CommandFailed("Database was not made yet: there is nothing to reset")
    prefix_directory.prepare(file.prefix)
    lock_fd = prefix_directory.lock(file.prefix)
    try:
        if prefix_directory.is_locked(file.prefix, "children.lock"):
            raise CommandFailed(f"processes of a gateway that ended are still leaving in {file.prefix}; try again")
        # The log of what was written last goes first: beside a new file it would be written into that.
        for ending in ("-wal", "-shm", ""):
            file.path.with_name(file.path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise CommandFailed(f"{file.path} can't be removed: {error.strerror}") from error
    finally:
        os.close(lock_fd)
