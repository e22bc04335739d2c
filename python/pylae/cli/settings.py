# SPDX-License-Identifier: Apache-2.0
"""Which settings and which prefix does a command speak of?"""

from __future__ import annotations

import base64
import binascii
from argparse import Namespace
from pathlib import Path
from typing import Final

from pylae.cli import node
from pylae.cli.talk import explain
from pylae.errors import SettingsError
from pylae.settings import ENVIRONMENT_FILE, Settings
from pylae.supervisor import prefix as prefix_directory

_CERTIFICATES: Final = {
    f"{scope}ssl_cert{what}": ending for scope in ("", "admin_", "status_") for what, ending in (("", "crt"), ("_key", "key"))
}


def prefix_of(arguments: Namespace) -> Path:
    """The prefix that -p, environment, file or default name."""
    if arguments.prefix is not None:
        return Path(arguments.prefix).expanduser().absolute()
    return Path(Settings.load(getattr(arguments, "conf", None), resolves=False).prefix)


def load(arguments: Namespace) -> Settings:
    """The settings that -c, -p, environment and defaults name.

    Raises:
        SettingsError: all that is wrong with them.
    """
    settings = Settings.load(arguments.conf, arguments.prefix)
    explain(f"prefix in use: {settings.prefix}")
    return settings


def of_running(arguments: Namespace) -> Settings:
    """The settings of the gateway that a command speaks of: those of -c, else those it was started with.

    Secrets that the environment of the command does not have are no reason to fail: it may need none of them.

    Raises:
        SettingsError: all that is wrong with them.
    """
    prefix = prefix_of(arguments)
    started_with = prefix / ENVIRONMENT_FILE
    conf = arguments.conf or (started_with if started_with.is_file() else None)
    try:
        return Settings.load(conf, prefix)
    except SettingsError:
        return Settings.load(conf, prefix, resolves=False)


def as_running(arguments: Namespace) -> Settings:
    """The settings with which a gateway runs in the prefix of a command; if none does, those that the command names.

    Raises:
        SettingsError: all that is wrong with them.
    """
    prefix = prefix_of(arguments)
    if node.pid_of(prefix) is None:
        return load(arguments)
    try:
        return Settings.from_prefix(prefix)
    except SettingsError:
        # Secrets that the environment of the command does not have.
        return Settings.load(prefix / ENVIRONMENT_FILE, prefix, environ={}, resolves=False)


def write_prefix(arguments: Namespace, settings: Settings, *, resolves: bool = True) -> None:
    """Writes into a prepared prefix what control and workers will read.

    Args:
        arguments: of the command.
        settings: what they name.
        resolves: whether references to vaults were resolved in them.

    Raises:
        PrefixUnusable: it can't be written.
    """
    prefix = Path(settings.prefix)
    files = {name: text for name, ending in _CERTIFICATES.items() if (text := _as_files(prefix, settings, name, ending))}
    if files:
        settings = Settings.load(arguments.conf, arguments.prefix, overrides=files, resolves=resolves)
    try:
        settings.write_env(prefix / ".kong_env")
    except OSError as error:
        raise prefix_directory.PrefixUnusable(f"could not prepare Pylae prefix at {prefix}: {error}") from error


def _as_files(prefix: Path, settings: Settings, name: str, ending: str) -> str | None:
    """The setting with its PEM texts, plain or in base64, put into files; `None` when there are only files."""
    if name in settings.references:
        return None  # each process asks the vault itself, and keeps the key in memory
    given: list[str] = getattr(settings, name)
    places = []
    for number, text in enumerate(given):
        if Path(text).is_file():
            places.append(str(Path(text).absolute()))
            continue
        if "-----BEGIN" not in text:
            try:
                text = base64.b64decode(text, validate=True).decode()
            except (binascii.Error, ValueError):
                continue  # the settings were checked: a file that has gone since
        place = prefix / "ssl" / f"{name}-{number}.{ending}"
        prefix_directory.write_private(place, text if text.endswith("\n") else f"{text}\n")
        places.append(str(place))
    joined = ", ".join(places)
    return joined if joined != ", ".join(given) else None
