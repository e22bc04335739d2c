# SPDX-License-Identifier: Apache-2.0
"""Which exact command mends or tells it? Every word of it that comes from an entity or a record is quoted for a shell."""

from __future__ import annotations

import ipaddress
import shlex
from urllib.parse import quote

from pylae.explain.words import escaped


def admin(admin_url: str, method: str, path: str, /, **fields: object) -> str:
    """A call of the Admin API.

    Args:
        admin_url: where it is reached, without a slash at its end.
        method: `GET`, `PATCH` …
        path: of parts that `part` made.
        fields: form fields; booleans and numbers as JSON spells them, a list's items one by one.
    """
    words = ["curl"] + ([] if method == "GET" else ["-X", method]) + [f"{admin_url}{path}"]
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += ["--data", f"{name.replace('__', '.')}={text}"]
    return join(words)


def part(name: str | None, placeholder: str) -> str:
    """One part of a path: a name or id; `<PLACEHOLDER>` when it is not known."""
    return quote(name, safe="") if name else f"<{placeholder}>"


def join(words: list[str]) -> str:
    """Words as a shell takes them; what can't be typed is escaped visibly."""
    return " ".join(shlex.quote(escaped(word, 500)) for word in words)


def split_address(address: str | None) -> tuple[str, str] | None:
    """Host and port of `10.0.0.7:8080` or `[::1]:8080`."""
    if not address:
        return None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return None
    return host.removeprefix("[").removesuffix("]"), port


def reach(address: str | None) -> str:
    """Is the port reached at all?"""
    found = split_address(address)
    return join(["nc", "-vz", *found]) if found else "nc -vz HOST PORT"


def show_certificate(address: str | None, name: str | None) -> str:
    """What does the server show in its handshake?"""
    words = ["openssl", "s_client", "-connect", address or "HOST:PORT"]
    # An address is no name that a server could be asked for.
    named = [] if name and is_address(name) else ["-servername", name or "NAME"]
    return f"{join([*words, *named])} </dev/null"


def is_address(host: str) -> bool:
    """Is it an IP address, in brackets or not?"""
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def filled(name: str, length: int) -> str:
    """A header of that name with a value of that length, for a shell: no value is ever recorded, and a size is all it takes."""
    filler = f"$(head -c {length} /dev/zero | tr '\\0' a)"
    return f'-H {shlex.quote(escaped(f"{name}: "))}"{filler}"'


def ask(
    address: str | None, *, scheme: str = "http", host: str | None = None, path: str | None = None, flags: tuple[str, ...] = ()
) -> str:
    """The same request without the gateway."""
    url = f"{scheme}://{address or 'HOST:PORT'}{path if path and path.startswith('/') else '/'}"
    return join(["curl", "-v", *flags, *(["-H", f"Host: {host}"] if host else []), url])
