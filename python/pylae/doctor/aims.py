# SPDX-License-Identifier: Apache-2.0
"""How would the gateway send a request of this Service, and with which call is that changed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pylae.doctor.answers import Header, Question
from pylae.doctor.findings import Row
from pylae.doctor.links import Place
from pylae.explain import calls

WITH_TLS: Final = ("https", "grpcs", "tls", "wss")
WITH_HTTP: Final = ("http", "https", "ws", "wss")
HARMLESS: Final = ("GET", "HEAD", "OPTIONS")
LONG_MS: Final = 60_000
"""Kong's default of each timeout of a Service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What is sent where.

    Attributes:
        service: as the Admin API shows it.
        admin_url: where the Admin API is reached, for the calls of a cure.
        host: the name or address that the connection is made for.
        host_header: what is sent as Host.
        verifies: whether the server's certificate is checked.
        bundles: PEM files of what is trusted; none: the public roots.
        patience_s: for each step of a probe.
        keepalive_s: how long the gateway keeps an idle connection; 0: for ever.
        target: path of the Target at the Admin API; empty where the Service itself says the address.
        is_given: whether method, path or headers are a user's, so that the status of the answer counts in full.
    """

    service: Row
    admin_url: str
    host: str
    host_header: str
    path: str = "/"
    method: str = "HEAD"
    headers: Sequence[Header] = ()
    body: bytes = b""
    verifies: bool = False
    bundles: tuple[str, ...] = ()
    patience_s: float = 5.0
    keepalive_s: float = 60.0
    is_given: bool = False
    target: str = ""

    @property
    def protocol(self) -> str:
        """The Service's."""
        return str(self.service.get("protocol") or "http")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in WITH_TLS

    @property
    def speaks_http(self) -> bool:
        """Whether an HTTP/1.1 request tells anything."""
        return self.protocol in WITH_HTTP

    @property
    def is_datagram(self) -> bool:
        """Whether there is no connection to make."""
        return self.protocol == "udp"

    @property
    def server_name(self) -> str:
        """What is asked for in the handshake: the host of the Host header, as workers do it."""
        header = self.host_header or self.host
        if header.startswith("["):
            return header[1:].partition("]")[0]
        name, colon, port = header.rpartition(":")
        return name if colon and port.isdigit() and ":" not in name else header

    def question(self, method: str = "") -> Question:
        """The request."""
        return Question(method or self.method, self.path, self.host_header, self.headers, self.body)

    def for_host(self, host: str, port: int, target: str = "") -> Aim:
        """The same for a Target, whose name is in the Host header unless something else was said."""
        return replace(
            self, host=host, target=target, host_header=self.host_header or default_host_header(host, port, is_tls=self.is_tls)
        )

    def wait_ms(self, name: str) -> int:
        """One of the Service's timeouts."""
        value = self.service.get(name)
        return int(value) if isinstance(value, int | float) else LONG_MS

    @property
    def connect_patience_s(self) -> float:
        """As long as the gateway would wait for a connection, or less."""
        return min(self.patience_s, max(self.wait_ms("connect_timeout") / 1000, 0.05))

    # === cures ===

    def patch(self, **fields: Any) -> str:
        """The call that changes the Service."""
        key = str(self.service.get("name") or self.service.get("id") or "")
        return calls.admin(self.admin_url, "PATCH", f"/services/{calls.part(key, 'SERVICE')}", **fields)

    def correct_address(self, *names: str) -> tuple[str, ...]:
        """What to do about a wrong address.

        Args:
            names: of the Service's fields that may be wrong.
        """
        if self.target:
            told = "or add the Target at its right address, and take this one out:"
            return (told, calls.admin(self.admin_url, "DELETE", self.target))
        what = " and ".join(names)
        return (f"or mend the {what} of the Service:", self.patch(**{name: name.upper() for name in names}))

    def curl(self, place: Place, *flags: str) -> str:
        """The same request, typed by hand."""
        scheme = "https" if self.is_tls else "http"
        return calls.ask(str(place), scheme=scheme, host=self.host_header, path=self.path, flags=flags)


def default_host_header(host: str, port: int, *, is_tls: bool) -> str:
    """What workers send as Host when nobody says another: the port only where it is not the usual one."""
    bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return bare if port == (443 if is_tls else 80) else f"{bare}:{port}"
