# SPDX-License-Identifier: Apache-2.0
"""Which flags do several commands share?"""

from __future__ import annotations

from argparse import ArgumentParser


def add_prefix(parser: ArgumentParser) -> None:
    """-p."""
    parser.add_argument("-p", "--prefix", metavar="DIR", help="working directory of the gateway")


def add_conf(parser: ArgumentParser) -> None:
    """-c and -p."""
    parser.add_argument("-c", "--conf", metavar="FILE", help="settings file")
    add_prefix(parser)


def add_nginx_conf(parser: ArgumentParser) -> None:
    """Flags about nginx's own file: taken so that scripts for Kong run, without effect."""
    parser.add_argument("--nginx-conf", metavar="FILE", help="without effect: there is no nginx")
    parser.add_argument("--nginx-conf-flags", metavar="FLAGS", help="without effect: there is no nginx")


def add_force(parser: ArgumentParser) -> None:
    """Consent to ask callers of the Admin API for less than before."""
    parser.add_argument("--force", action="store_true", help="even if that drops what the Admin API asks its callers for")


def add_database(parser: ArgumentParser) -> None:
    """Flags about the migration that a start does by itself."""
    parser.add_argument("--run-migrations", action="store_true", help="without effect: a start migrates by itself")
    add_timeouts(parser)


def add_timeouts(parser: ArgumentParser) -> None:
    """How long to wait for the database."""
    parser.add_argument("--db-timeout", type=int, metavar="SECONDS", help="patience with the database")
    parser.add_argument("--lock-timeout", type=int, default=60, metavar="SECONDS", help="patience with other migrations")
