# SPDX-License-Identifier: Apache-2.0
"""End the gateway at once: requests in flight are cut off."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pylae.cli import arguments as flags
from pylae.cli import node
from pylae.cli.settings import prefix_of
from pylae.cli.talk import CommandFailed, explain, say

WITHIN_S: Final = 15.0
"""The supervisor itself kills what has not left after 10 s."""


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_prefix(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    stop(prefix_of(arguments))
    say("Pylae stopped")


def stop(prefix: Path) -> None:
    """Ends the gateway of a prefix, and returns when all its processes have gone.

    Raises:
        CommandFailed: none runs, or it would not end.
    """
    pid = node.running_pid(prefix)
    explain(f"sending TERM signal to supervisor running at {pid}")
    node.send(pid, signal.SIGTERM)
    if node.wait_until(lambda: node.is_gone(prefix), WITHIN_S):
        return
    node.kill(prefix, pid)
    if not node.wait_until(lambda: node.is_gone(prefix), WITHIN_S):
        raise CommandFailed(f"process {pid} does not end, not even killed")
