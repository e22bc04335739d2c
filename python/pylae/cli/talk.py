# SPDX-License-Identifier: Apache-2.0
"""What does a command say, and where? Results on stdout, errors and talk on stderr."""

from __future__ import annotations

import os
import sys
from typing import Final

from pylae.errors import PylaeError

HINT: Final = "Run with --v (verbose) or --vv (debug) for more details"

_verbosity = 0


class CommandFailed(PylaeError):
    """The command ends with exit code 1; its text says why."""


def set_verbosity(level: int) -> None:
    """0: results only; 1: what is done; 2: also a traceback when it fails."""
    global _verbosity
    _verbosity = level


def verbosity() -> int:
    """What `set_verbosity` was told."""
    return _verbosity


def say(message: str) -> None:
    """Prints a result.

    Raises:
        BrokenPipeError: nobody reads it.
        CommandFailed: it can't be written.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{message}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"the output can't be written: {error.strerror}") from error


def warn(message: str) -> None:
    """Prints what is probably not meant."""
    sys.stderr.write(f"Warning: {message}\n")


def drop_output() -> None:
    """Nothing more is printed: what is held back goes nowhere, too."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def explain(message: str) -> None:
    """Prints a step, for those who asked with --v."""
    if _verbosity:
        sys.stderr.write(f"{message}\n")


def complain(error: PylaeError) -> None:
    """Prints why a command failed."""
    sys.stderr.write(f"Error: {error}\n")
    if not _verbosity:
        sys.stderr.write(f"\n  {HINT}\n")
