# SPDX-License-Identifier: Apache-2.0
"""Make the working directory and what lies in it, without starting."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.supervisor import prefix as prefix_directory
from pylae.supervisor.plan import plan_of


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_conf(parser)
    flags.add_nginx_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    settings = given_settings.load(arguments)
    prefix = Path(settings.prefix)
    prefix_directory.prepare(prefix)
    given_settings.write_prefix(arguments, settings)
    prefix_directory.prepare_certificates(prefix, plan_of(settings).default_certificates)
