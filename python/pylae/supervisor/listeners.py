# SPDX-License-Identifier: Apache-2.0
"""Which sockets do the gateway's processes share, and is anyone else on their addresses?

Proxy addresses get one `SO_REUSEPORT` socket per worker slot, and every worker gets all of them: a worker accepts
from its own, and from those of a sibling that is gone or hangs, so that no queued connection is stranded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pylae.errors import PylaeError

DEFAULT_BACKLOG: Final = 511  # nginx's
PROXY: Final = "proxy"


class AddressUnavailable(PylaeError):
    """An address of the settings can't be listened on."""


@dataclass(frozen=True)
class Address:
    """One item of a `*_listen` setting.

    Attributes:
        purpose: proxy, admin or status.
        host: a host name or an IP address, without brackets.
        flags: as written, such as `ssl` or `backlog=16384`.
    """

    purpose: str
    host: str
    port: int
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def flag_value(self, name: str) -> str | None:
        """What stands after `name=` among the flags."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"{name}=")), None)


@dataclass(eq=False)
class Listener:
    """An address with its open sockets."""

    address: Address
    port: int
    sockets: list[socket.socket] = field(default_factory=list)

    def close(self, first: int = 0) -> None:
        """Ends the sockets from this one on, for those too who inherited them; who connects is refused."""
        for one in self.sockets[first:]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RD)
            one.close()
        del self.sockets[first:]

    def as_dict(self) -> dict[str, Any]:
        """How control and workers are told."""
        return {
            "purpose": self.address.purpose,
            "address": self.address.host,
            "port": self.port,
            "flags": list(self.address.flags),
            "fds": [one.fileno() for one in self.sockets],
        }


class Listeners:
    """Every socket the gateway listens on. A change stays open to both ends until it is committed or reverted."""

    def __init__(self) -> None:
        self._open: list[Listener] = []
        # How it was before the change that is under way: what listened, with how many sockets and which flags.
        self._before: list[tuple[Listener, int, Address]] = []

    def __repr__(self) -> str:
        return f"<listeners {' '.join(str(listener.address) for listener in self._open)}>"

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._open)

    def change(self, addresses: Iterable[Address], slots: int) -> None:
        """Opens what is new and keeps what stays; what is not wanted any more stays open until the commit.

        Args:
            addresses: all that shall be listened on from now on.
            slots: sockets each proxy address has at least; surplus ones stay, with their queues.

        Raises:
            AddressUnavailable: nothing has changed then.
        """
        present = {_key(listener.address): listener for listener in self._open}
        wanted = list(addresses)
        # All checks first: our own sockets must not be found to be in the way of our next ones.
        for address in wanted:
            if _key(address) not in present:
                _check_unused(address)
        self._before = [(listener, len(listener.sockets), listener.address) for listener in self._open]
        self._open = [present.get(_key(address)) or Listener(address, address.port) for address in wanted]
        try:
            for listener, address in zip(self._open, wanted, strict=True):
                listener.address = address
                _grow(listener, slots if address.purpose == PROXY else 1)
        except AddressUnavailable:
            self.revert()
            raise

    def commit(self) -> None:
        """Nobody listens any more on what is not wanted."""
        for listener, _, _ in self._before:
            if listener not in self._open:
                listener.close()
        self._before = []

    def revert(self) -> None:
        """Takes the last change back."""
        kept = [listener for listener, _, _ in self._before]
        for listener in self._open:
            if listener not in kept:
                listener.close()
        for listener, count, address in self._before:
            listener.close(count)
            listener.address = address
        self._open, self._before = kept, []

    def of(self, *purposes: str) -> list[Listener]:
        """Those of some purposes, in the order of the settings."""
        return [listener for listener in self._open if listener.address.purpose in purposes]

    def close(self) -> None:
        """Nobody listens any more."""
        self.commit()
        for listener in self._open:
            listener.close()


def _key(address: Address) -> tuple[str, str, int]:
    return address.purpose, address.host, address.port


def descriptors(listeners: Iterable[Listener]) -> list[int]:
    """All descriptors, for a child to inherit."""
    return [one.fileno() for listener in listeners for one in listener.sockets]


def _refused(address: Address, error: OSError) -> AddressUnavailable:
    if error.errno == errno.EADDRINUSE:
        return AddressUnavailable(
            f"bind() to {address} failed (98: Address already in use); hint: another program, or another gateway with "
            f"other settings, listens there: `{address.purpose}_listen` says where this one shall"
        )
    reason = f"{error.errno}: {os.strerror(error.errno)}" if error.errno else str(error)
    return AddressUnavailable(f"bind() to {address} failed ({reason}); it stands in `{address.purpose}_listen`")


def _socket_for(address: Address, port: int) -> socket.socket:
    family, kind, _, _, place = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.flag_value("ipv6only") != "off"))
    if address.purpose == PROXY:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


def _check_unused(address: Address) -> None:
    """Binds without `SO_REUSEPORT`: with it, a second gateway would take half of the first one's connections."""
    if address.port == 0:
        return
    try:
        _socket_for(Address("probe", address.host, address.port, address.flags), address.port).close()
    except OSError as error:
        raise _refused(address, error) from error


def _grow(listener: Listener, count: int) -> None:
    address = listener.address
    try:
        while len(listener.sockets) < count:
            made = _socket_for(address, listener.port)
            listener.sockets.append(made)
            listener.port = made.getsockname()[1]
            _set_options(made, address)
            made.listen(int(address.flag_value("backlog") or DEFAULT_BACKLOG))
            made.settimeout(0)
    except OSError as error:
        raise _refused(address, error) from error


def _set_options(made: socket.socket, address: Address) -> None:
    if "deferred" in address.flags:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    keep_alive = address.flag_value("so_keepalive")
    if keep_alive in (None, "off"):
        return
    # Accepted sockets inherit these from the one that listens.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    if keep_alive == "on":
        return
    for option, text in zip(options, (keep_alive or "").split(":"), strict=False):
        if text:
            minutes = text.endswith("m")
            made.setsockopt(socket.IPPROTO_TCP, option, int(text.rstrip("sm")) * (60 if minutes else 1))
