# SPDX-License-Identifier: Apache-2.0
"""May this request drive the gateway, or is a web page behind it?

A page of another site can make the administrator's own browser send a form POST to 127.0.0.1 without asking first
(CSRF), or can make its own name resolve to 127.0.0.1 and then read answers too (DNS rebinding). The browser tells
on both: `Origin` and `Sec-Fetch-Site` (Fetch Metadata) for the first, `Host` for the second.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})


def origin_of(url: str) -> str | None:
    """The origin of a URL as browsers write it; None when it has none.

    >>> origin_of("https://Gui.example.com:443/manager/")
    'https://gui.example.com'
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or parts.hostname is None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown_port}"


def host_name(host: str) -> str | None:
    """The name or address of a Host field, without the port; None when it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if "@" in host or "/" in host or parts.hostname is None:
        return None
    return parts.hostname.removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class Guard:
    """Judges requests by the fields that a browser sets and a page cannot.

    Args:
        origins: URLs of pages that may drive the gateway (`admin_gui_url`); None where none can be named.
        addresses: that the API listens on.
        hosts: more names by which it may be called.
    """

    def __init__(self, origins: Iterable[str] | None, addresses: Iterable[str], hosts: Iterable[str] = ()) -> None:
        self._origins = tuple(filter(None, map(origin_of, origins or ())))
        self._hint = "" if origins is None else "; hint: `admin_gui_url`"
        found = [(address, _address(address)) for address in addresses]
        self._names = frozenset(host.lower() for host in hosts) | frozenset(address.lower() for address, _ in found)
        # On every address: it is called by whichever the machine has, or by one that is translated to it. A page can
        # make a name of its own resolve to us, but no page comes from an address that is ours.
        self._takes_any_address = any(ip is not None and ip.is_unspecified for _, ip in found)

    def refusal(self, host: str | None, origin: str | None, fetch_site: str | None, scheme: str) -> str | None:
        """Why the request is not served; None when it may be."""
        name = None if host is None else host_name(host)
        if name is None or not self._is_ours(name):
            return "Host is neither a loopback name nor one that this API is configured with; hint: `admin_hosts`"
        if origin is not None and not self.may_read(origin, host, scheme):
            return f"Origin may not use this API{self._hint}"
        if origin is None and fetch_site == "cross-site":
            return "requests of other sites' pages are not served"
        return None

    def may_read(self, origin: str, host: str | None, scheme: str) -> bool:
        """Whether pages of this origin see answers: those that are configured, and this API's own.

        The latter can only be believed together with `refusal`, which knows our names from a stranger's.
        """
        return origin in self._origins or (host is not None and origin == origin_of(f"{scheme}://{host}"))

    def shown_origin(self, origin: str | None, host: str | None, scheme: str) -> str | None:
        """The `Access-Control-Allow-Origin` of an answer, never `*`; None lets no page see it."""
        if origin is None:
            return self._origins[0] if self._origins else None
        return origin if self.may_read(origin, host, scheme) else None

    def _is_ours(self, name: str) -> bool:
        if name in _LOOPBACK_NAMES or name.endswith(".localhost") or name in self._names:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self._takes_any_address)
