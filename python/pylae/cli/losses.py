# SPDX-License-Identifier: Apache-2.0
"""What would a running gateway lose with these settings, perhaps because this shell does not have its environment?"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pylae.cli.talk import CommandFailed, warn
from pylae.settings import ENVIRONMENT_FILE, Settings, parse_file

GUARDS: Final = ("admin_auth_token", "admin_client_ca")
"""What the Admin API asks its callers for."""


def check(prefix: Path, settings: Settings, *, is_forced: bool) -> None:
    """Tells what the gateway that runs in a prefix was given and these settings do not name.

    Raises:
        CommandFailed: that would open its Admin API.
        SettingsError: what it was given can't be read.
    """
    given = settings.given | set(settings.directives)
    try:
        running = parse_file((prefix / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    except OSError:
        return
    lost = [name for name in running if name not in given and name != "prefix"]
    guards = [name for name in lost if name in GUARDS]
    if guards and not is_forced and settings.listeners("admin"):
        names = " and ".join(guards)
        raise CommandFailed(
            f"the running gateway was given {names}, and these settings have none: its Admin API would ask its callers for "
            "less; hint: give them in this shell or in a file, or add --force"
        )
    if lost:
        warn(f"the running gateway was given {', '.join(lost)}, which these settings do not name: the default holds")
