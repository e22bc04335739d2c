# SPDX-License-Identifier: Apache-2.0
"""End the gateway once what is in flight was served; at the timeout, end it all the same."""

from __future__ import annotations

import signal
import time
from argparse import ArgumentParser, Namespace

from pylae.cli import arguments as flags
from pylae.cli import node
from pylae.cli.settings import prefix_of
from pylae.cli.stop import stop
from pylae.cli.talk import explain, say


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_prefix(parser)
    parser.add_argument("-t", "--timeout", type=float, default=10, metavar="SECONDS", help="patience (10)")
    parser.add_argument("-w", "--wait", type=float, default=0, metavar="SECONDS", help="pause before it begins (0)")


def run(arguments: Namespace) -> None:
    """Does it."""
    prefix = prefix_of(arguments)
    pid = node.running_pid(prefix)
    if arguments.wait > 0:
        explain(f"waiting {arguments.wait:g} seconds before quitting")
        # Load balancers in front learn in the meantime that this node is going.
        time.sleep(arguments.wait)
    explain(f"sending QUIT signal to supervisor running at {pid}")
    node.send(pid, signal.SIGQUIT)
    if node.wait_until(lambda: node.is_gone(prefix), arguments.timeout):
        say("Pylae stopped (gracefully)")
        return
    if node.pid_of(prefix) is not None:
        stop(prefix)
    say("Timeout, Pylae stopped forcefully")
