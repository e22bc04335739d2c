# SPDX-License-Identifier: Apache-2.0
"""Say whether the processes of the gateway run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from pylae.cli import arguments as flags
from pylae.cli import node
from pylae.cli.settings import prefix_of
from pylae.cli.talk import CommandFailed, say
from pylae.supervisor import prefix as prefix_directory


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_prefix(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    prefix = node.existing(prefix_of(arguments))
    is_running = node.pid_of(prefix) is not None
    _say("pylae", is_running=is_running)
    for module in prefix_directory.CHILD_MODULES:
        _say(module.rpartition(".")[2], is_running=is_running and bool(prefix_directory.leftovers(prefix, (module,))))
    say("")
    if not is_running:
        raise CommandFailed(f"Pylae is not running at {prefix}")
    say(f"Pylae is healthy at {prefix}")


def _say(service: str, *, is_running: bool) -> None:
    say(f"{service.ljust(12, '.')}{'running' if is_running else 'not running'}")
