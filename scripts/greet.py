# SPDX-License-Identifier: Apache-2.0
"""Where is the gateway that runs, and what can be typed next? Printed by `make start`."""

from __future__ import annotations

import sys
from pathlib import Path

from pylae.settings import Listener, Purpose, Settings

WHAT: tuple[tuple[Purpose, str], ...] = (("proxy", "proxy"), ("admin", "Admin API"), ("status", "status"))


def url(listener: Listener) -> str:
    """How to call it from this machine."""
    host = listener.address
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        host = "localhost"
    return f"{'https' if listener.is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{listener.port}"


def main() -> None:
    """Prints it."""
    settings = Settings.from_prefix(Settings.load().prefix)
    rows = [(name, "  ".join(map(url, settings.listeners(purpose))) or "off") for purpose, name in WHAT]
    command = Path(sys.executable).with_name("pylae")
    rows.append(("command", f"{command.relative_to(Path.cwd())}    (`make stop` or `pylae stop` ends the gateway)"))
    rows.append(("logs", f"{Path(settings.prefix) / 'logs'}"))
    for name, value in rows:
        sys.stdout.write(f"  {name.ljust(10)} {value}\n")
    admin = next(iter(settings.listeners("admin")), None)
    if admin is not None:
        insecure = "-k " if admin.is_tls else ""
        sys.stdout.write(
            "\nNext, with something that listens on 8080:\n\n"
            f"  curl -i {insecure}-X POST {url(admin)}/services"
            " --data name=upstream-service --data url=http://127.0.0.1:8080\n"
        )


if __name__ == "__main__":
    main()
