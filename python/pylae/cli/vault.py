# SPDX-License-Identifier: Apache-2.0
"""Print the secret that a reference names: `pylae vault get '{vault://env/my-secret}'`, or `env/my-secret`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pylae.cli import api, node
from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import CommandFailed, say
from pylae.settings import Settings
from pylae.vaults import KINDS, InvalidReference, VaultRows, Vaults, is_reference, parse

SCHEME: Final = "vault://"


def declare(parser: ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("action", choices=("get",), help="get: print the secret")
    parser.add_argument("reference", nargs="?", help="{vault://<vault>/<resource>[/<key>]}, or what stands after vault://")
    flags.add_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    if not arguments.reference:
        raise CommandFailed("the 'get' command needs a <reference> argument")
    text = arguments.reference
    if not text.startswith("{"):
        text = f"{{{SCHEME}{text.removeprefix(SCHEME)}}}"
    if not is_reference(text):
        raise CommandFailed(f"not a reference: {arguments.reference}")
    settings = given_settings.of_running(arguments)
    try:
        reference = parse(text)
        rows = {} if reference.vault in KINDS else _rows(settings, reference.vault)
        say(Vaults.of(settings).get(text, rows))
    except InvalidReference as error:
        raise CommandFailed(str(error)) from error


def _rows(settings: Settings, prefix: str) -> VaultRows:
    """The row that a reference leads to, if the gateway runs and has it."""
    if node.pid_of(Path(settings.prefix)) is None:
        raise CommandFailed(f"the vault `{prefix}` is an entity, and no gateway runs in {settings.prefix} that could be asked")
    status, row = api.call(settings, "admin", "GET", f"/vaults/{quote(prefix, safe='')}")
    if status not in (200, 404):
        raise CommandFailed(f"the Admin API answered {status}: {row.get('message', '')}")
    return {prefix: row} if status == 200 else {}
