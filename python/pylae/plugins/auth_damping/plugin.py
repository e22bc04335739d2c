# SPDX-License-Identifier: Apache-2.0
"""auth-damping: has this client guessed too often?

For APIs whose secrets people choose. It counts refused credentials by the client's address and by the name they were
for, over all workers of the node, and answers 429 until the window is over. It runs before the plugins that authenticate,
which tell it how their attempts went; a request without credentials counts for nothing.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

from pylae.plugins.auth_damping import config as declared
from pylae.sdk import Answer, CountersUnavailable, Exchange, Host, Instance, Plugin
from pylae.sdk.auth.damping import KEY
from pylae.sdk.host import Limit

MESSAGE: Final = "Too many failed attempts"
_COUNTING_LIMIT: Final = 1 << 53
"""Failures are counted beyond the limit, too."""


class Prepared:
    """A configuration, and which plugin it is of: each counts for itself."""

    __slots__ = ("id", "per_ip", "per_name", "window_ms")

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.id = instance.id
        self.window_ms = config.window * 1000
        self.per_ip = config.failures_per_ip
        self.per_name = config.failures_per_name


class Failures:
    """The counts of one request's address and names; what `pylae.sdk.auth.damping` promises."""

    __slots__ = ("_config", "_host", "_ip")

    def __init__(self, host: Host, config: Prepared, ip: str) -> None:
        self._host = host
        self._config = config
        self._ip = ip

    def is_address_locked(self) -> bool:
        """Did too many fail from this address?"""
        limit = self._config.per_ip
        return limit is not None and self._count(self._of_address()) >= limit

    def is_locked(self, plugin: str, name: str) -> bool:
        """Did this name fail too often, from wherever?"""
        limit = self._config.per_name
        return limit is not None and self._count(self._of_name(plugin, name)) >= limit

    def failed(self, plugin: str, name: str | None) -> None:
        """Counts a failure."""
        if self._config.per_ip is not None:
            self._add(self._of_address())
        if name is not None and self._config.per_name is not None:
            self._add(self._of_name(plugin, name))

    def refusal(self, exchange: Exchange) -> Answer:
        """429, and when to come back."""
        seconds = max(1, -(-(self._window()[2] - self._host.now_ms()) // 1000))
        return exchange.error(429, MESSAGE, {"Retry-After": str(seconds)})

    def _of_address(self) -> bytes:
        return f"auth-damping:{self._config.id}:ip:{self._ip}".encode()

    def _of_name(self, plugin: str, name: str) -> bytes:
        # Of one length, and no name of anybody in shared memory.
        # Directories and providers do not tell `Alice` from `alice`, so spellings are no further attempts.
        name = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        digest = hashlib.blake2b(f"{plugin}\0{name}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"auth-damping:{self._config.id}:name:{digest}".encode()

    def _window(self) -> Limit:
        length = self._config.window_ms
        start = self._host.now_ms() // length * length
        return _COUNTING_LIMIT, start, start + length

    def _count(self, identifier: bytes) -> int:
        try:
            return self._host.counters_read(identifier, [self._window()])[0]
        except CountersUnavailable:
            # Damping is a help to authentication and no part of it: without counts it goes on undamped.
            return 0

    def _add(self, identifier: bytes) -> None:
        try:
            self._host.counters_take(identifier, [self._window()], 1)
        except CountersUnavailable:
            self._host.log("warn", "auth-damping: a failed attempt could not be counted: the shared counters are full")


class AuthDamping(Plugin):
    """Answers 429 to addresses and names that failed too often."""

    name = "auth-damping"
    version = "0.1.0"
    priority = 2400
    scopes = ("global", "service", "route")
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:
        """Takes the limits."""
        return Prepared(config, instance)

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Refuses an address that failed too often, and leaves the counts to the plugins that authenticate."""
        failures = Failures(self.host, config, exchange.client.forwarded_ip)
        if failures.is_address_locked():
            return failures.refusal(exchange)
        exchange.ctx[KEY] = failures
        return None
