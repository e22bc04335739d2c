# SPDX-License-Identifier: Apache-2.0
"""What does `pylae COMMAND` do? Finds the command, imports it alone, and turns what it raises into an exit code.

A start's time is ours to spare: nothing is imported here that the command at hand does not need.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from pylae.cli import talk
from pylae.errors import PylaeError

COMMANDS: Final = {
    "check": "check a settings file",
    "config": "make, check, compare, import and export declarative configurations",
    "doctor": "look whether requests get through, hop by hop, and say what to change",
    "drain": "tell load balancers that this node is going; it serves on",
    "explain": "say why a request failed",
    "health": "say whether the gateway runs",
    "migrations": "make the database, bring it up to date, say where it stands, empty it",
    "prepare": "make the working directory, without starting",
    "quit": "end the gateway once what is in flight was served",
    "reload": "read the settings again without losing a request",
    "restart": "stop and start",
    "start": "start the gateway",
    "stop": "end the gateway at once",
    "vault": "print a secret that a reference names",
    "version": "print the version",
}
"""Name and what it does; `pylae.cli.<name>` has `declare(parser)` and `run(arguments)`."""

READER_GONE: Final = 128 + signal.SIGPIPE
"""The exit code that a shell gives a command whose output nobody reads any more."""


class Parser(argparse.ArgumentParser):
    """A parser that ends with Kong's exit code, or with a command's own."""

    unusable = 1
    """The exit code where the words of a command mean nothing."""

    def error(self, message: str) -> NoReturn:
        """Prints the usage and why."""
        sys.stderr.write(f"Error: {message}\n\n{self.format_help()}")
        raise SystemExit(self.unusable)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; ends by `SystemExit` when the exit code is not 0."""
    try:
        try:
            _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough: `pylae config diff FILE | head`.
        raise SystemExit(READER_GONE) from None
    finally:
        talk.drop_output()


def _run(words: list[str]) -> None:
    # Verbosity may stand anywhere, before the command too.
    talk.set_verbosity(2 if "--vv" in words else 1 if "--v" in words else 0)
    words = [word for word in words if word not in ("--v", "--vv")]
    if not words or words[0] in ("help", "h", "-h", "--help"):
        talk.say(usage())
        raise SystemExit(0 if words else 1)
    name, *rest = words
    if name not in COMMANDS:
        sys.stderr.write(f"Error: unknown command or option: {name}\n\n{usage()}\n")
        raise SystemExit(1)
    command = importlib.import_module(f"pylae.cli.{name}")
    parser = Parser(prog=f"pylae {name}", description=command.__doc__, allow_abbrev=False)
    parser.unusable = getattr(command, "UNUSABLE", Parser.unusable)
    command.declare(parser)
    try:
        # Intermixed: flags may stand between a command's words, too.
        command.run(parser.parse_intermixed_args(rest))
    except PylaeError as error:
        if talk.verbosity() > 1:
            raise
        talk.complain(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def usage() -> str:
    """What can be typed."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name.ljust(width)}  {what}" for name, what in COMMANDS.items())
    return (
        f"Usage: pylae COMMAND [OPTIONS]\n\nThe available commands are:\n{lines}\n\n"
        "Options:\n  --v   verbose\n  --vv  debug\n\n`pylae COMMAND --help` says what a command takes."
    )
