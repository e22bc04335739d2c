# SPDX-License-Identifier: Apache-2.0
"""Tell load balancers that this node is going: from now on it says that it is not ready, and serves on."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli import api, node
from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, say


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    settings = given_settings.of_running(arguments)
    if not settings.listeners("status"):
        say("No status listeners found in configuration.")
        return
    node.running_pid(Path(settings.prefix))
    status, body = api.call(settings, "status", "POST", "/status/ready", {"status": "draining"})
    if status not in (200, 204):
        raise CommandFailed(f"the Status API answered {status}: {body.get('message', '')}")
    say("Pylae's status successfully changed to 'draining'")
