# SPDX-License-Identifier: Apache-2.0
"""What do the settings ask of the supervisor?"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pylae.settings import ENVIRONMENT_FILE, Settings
from pylae.supervisor.listeners import Address

PURPOSES: Final = ("proxy", "admin", "status")
KILL_AFTER_S: Final = 5.0
"""How much longer than it allows itself a draining worker may live."""


@dataclass(frozen=True)
class Plan:
    """The settings, as far as the supervisor acts on them.

    Attributes:
        workers: how many serve.
        addresses: all that is listened on.
        hang_timeout_s: a worker that was silent for longer is killed.
        drain_timeout_s: after a drain of this length a process is killed; longer than what it allows itself.
        user: user and group of control and workers; `None`: ours.
        warnings: what to say once at start, such as settings that have no effect.
        default_certificates: base names, below ssl/, of the self-signed certificates that listeners need.
    """

    prefix: Path
    workers: int
    addresses: tuple[Address, ...]
    error_log: Path
    log_level: str = "notice"
    hang_timeout_s: float = 10.0
    drain_timeout_s: float = 10.0
    user: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    default_certificates: tuple[str, ...] = ()

    @property
    def settings_path(self) -> Path:
        """Where the settings of the running gateway stand."""
        return self.prefix / ENVIRONMENT_FILE

    def read_settings(self) -> str:
        """The settings of the running gateway, as text."""
        return self.settings_path.read_text(encoding="utf-8")


def plan_of(settings: Settings) -> Plan:
    """The plan that settings ask for."""
    listeners = {purpose: settings.listeners(purpose) for purpose in PURPOSES}
    certificates = {
        name
        for purpose, name, given in (
            ("proxy", "kong-default", settings.ssl_cert),
            ("admin", "admin-kong-default", settings.admin_ssl_cert),
            ("status", "status-kong-default", settings.status_ssl_cert),
        )
        if not given and any(listener.is_tls for listener in listeners[purpose])
    }
    return Plan(
        prefix=Path(settings.prefix),
        workers=settings.worker_count,
        addresses=tuple(
            Address(purpose, listener.address, listener.port, listener.flags)
            for purpose, found in listeners.items()
            for listener in found
        ),
        error_log=settings.log_path("proxy_error_log") or Path(os.devnull),
        log_level=settings.log_level,
        hang_timeout_s=settings.worker_hang_timeout,
        drain_timeout_s=settings.drain_timeout_s + KILL_AFTER_S,
        user=_user(settings.nginx_main_user),
        warnings=tuple(settings.warnings()),
        default_certificates=tuple(sorted(certificates)),
    )


def _user(text: str | None) -> tuple[int, int] | None:
    """Ids of a user and group, when we may become them and they exist."""
    if not text or os.geteuid() != 0:
        return None
    user, _, group = text.partition(" ")
    try:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, grp.getgrnam(group.strip()).gr_gid if group.strip() else entry.pw_gid
    except KeyError:
        return None
