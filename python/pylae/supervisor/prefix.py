# SPDX-License-Identifier: Apache-2.0
"""What lies in the gateway's working directory, and who else works in it?"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from pylae.errors import PylaeError
from pylae.node_id import node_id_of

FOLDERS: Final = ("pids", "logs", "sockets", "ssl", "spool")
PROBE_KEY: Final = "probe.key"
PROBE_KEY_BYTES: Final = 32
CHILD_MODULES: Final = ("pylae.admin", "pylae.worker")
LEFTOVERS_LEAVE_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.01
_LOOKERS_LEAVE_WITHIN_S: Final = 0.1  # `is_locked` takes the lock for an instant


class PrefixUnusable(PylaeError):
    """The working directory can't be used."""


class AlreadyRunning(PylaeError):
    """Another gateway runs in this prefix."""


def prepare(prefix: Path) -> None:
    """Makes the working directory and what lies in it, for us alone.

    Raises:
        PrefixUnusable: it can't be made or written.
    """
    try:
        prefix.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix.chmod(0o700)
        for name in FOLDERS:
            (prefix / name).mkdir(mode=0o700, exist_ok=True)
        has_probe_key = (prefix / PROBE_KEY).exists()
    except OSError as error:
        raise PrefixUnusable(f"could not prepare Pylae prefix at {prefix}: {error}") from error
    if not has_probe_key:
        write_private(prefix / PROBE_KEY, f"{secrets.token_hex(PROBE_KEY_BYTES)}\n")
    # Before there is more than one process that could make it.
    node_id_of(prefix)


def prepare_certificates(prefix: Path, names: Iterable[str]) -> None:
    """Makes the self-signed default certificates that are missing: `kong-default`, `admin-kong-default` ...

    Raises:
        PrefixUnusable: they can't be written.
    """
    for name in names:
        certificate, key = prefix / "ssl" / f"{name}.crt", prefix / "ssl" / f"{name}.key"
        if certificate.is_file() and key.is_file():
            continue
        from pylae.supervisor.certificates import write_self_signed  # slow to import, needed once per prefix

        try:
            write_self_signed(certificate, key)
        except OSError as error:
            raise PrefixUnusable(f"could not prepare Pylae prefix at {prefix}: {error}") from error


def give_to(prefix: Path, user: int, group: int) -> None:
    """Makes the prefix and what lies in it the workers' own.

    Raises:
        PrefixUnusable: it can't be given away.
    """
    try:
        os.chown(prefix, user, group)
        for folder, folders, files in os.walk(prefix):
            for name in (*folders, *files):
                os.chown(Path(folder, name), user, group, follow_symlinks=False)
    except OSError as error:
        raise PrefixUnusable(f"could not give Pylae prefix at {prefix} to user {user}: {error}") from error


def write_private(path: Path, text: str) -> None:
    """Writes a file that only we may read, whole or not at all.

    Raises:
        PrefixUnusable: it can't be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PrefixUnusable(f"could not write {path}: {error}") from error


def pid_path(prefix: Path) -> Path:
    """Where the supervisor's pid stands; Kong's tools look there."""
    return prefix / "pids" / "nginx.pid"


def lock(prefix: Path) -> int:
    """Becomes the only gateway of the prefix, for as long as the returned descriptor is open.

    Raises:
        AlreadyRunning: another one is.
        PrefixUnusable: there is no such directory, or it is not ours.
    """
    path = prefix / "pids" / "pylae.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PrefixUnusable(f"could not prepare Pylae prefix at {prefix}: {error}") from error
    give_up_at_s = time.monotonic() + _LOOKERS_LEAVE_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > give_up_at_s:
                os.close(descriptor)
                raise AlreadyRunning(f"Pylae is already running in {prefix}") from error
            time.sleep(_POLL_S)
        else:
            return descriptor


def is_locked(prefix: Path, name: str = "pylae.lock") -> bool:
    """Whether a gateway, or with `children.lock` a child of one, lives in the prefix."""
    try:
        descriptor = os.open(prefix / "pids" / name, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock_for_children(prefix: Path, on_kill: Callable[[int], None]) -> int:
    """Waits until the processes of an earlier gateway have left, and returns the lock that ours shall inherit.

    They leave by themselves once their supervisor is gone: they drain first. Those that take too long are killed.

    Args:
        prefix: whose.
        on_kill: told the pid of each that is killed.
    """
    descriptor = os.open(prefix / "pids" / "children.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    kill_at_s = time.monotonic() + LEFTOVERS_LEAVE_WITHIN_S
    while True:
        try:
            # Shared by all children of one supervisor, since they inherit the open file.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > kill_at_s:
                for pid in leftovers(prefix):
                    on_kill(pid)
                    os.kill(pid, signal.SIGKILL)
                kill_at_s += 1.0
            time.sleep(_POLL_S)
        else:
            return descriptor


def leftovers(prefix: Path, modules: Sequence[str] = CHILD_MODULES) -> list[int]:
    """Control and workers of this prefix, whoever started them."""
    wanted = f"\0--prefix\0{prefix}\0".encode()
    starts = [f"\0-m\0{module}\0".encode() for module in modules]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in line and any(start in line for start in starts):
            found.append(int(entry.name))
    return found
