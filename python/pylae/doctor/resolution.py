# SPDX-License-Identifier: Apache-2.0
"""How does the gateway look names up: whom does it ask, for which types, and what needs no asking?"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pylae.doctor.links import Place
from pylae.settings import Settings

DNS_PORT: Final = 53
MOST_SERVERS: Final = 3
MOST_SEARCH: Final = 6
MOST_NDOTS: Final = 15
LONGEST_NAME: Final = 253
TYPES: Final = ("SRV", "A", "AAAA")


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a look-up goes by.

    Attributes:
        source: where the servers are named, for the eyes of people.
        types: which are asked for, the first that has records wins.
        hosts: what the hosts file says, by name in lower case.
    """

    servers: Sequence[Place]
    source: str
    types: Sequence[str] = ("A",)
    srv_of_services_only: bool = True
    search: Sequence[str] = ()
    ndots: int = 1
    hosts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def candidates(self, name: str) -> list[str]:
        """The full names under which a name is looked for, in order."""
        if name.endswith("."):
            return [name[:-1]]
        within = [full for domain in self.search if len(full := f"{name}.{domain}") <= LONGEST_NAME]
        return [name, *within] if name.count(".") >= self.ndots else [*within, name]

    def types_of(self, name: str) -> list[str]:
        """Which types are asked for."""
        labels = name.split(".")
        is_service = len(labels) > 2 and all(label.startswith("_") and len(label) > 1 for label in labels[:2])
        return [kind for kind in self.types if kind != "SRV" or is_service or not self.srv_of_services_only]


def resolution_of(settings: Settings) -> Resolution:
    """As the workers of these settings do it; files that can't be read say nothing."""
    if settings.new_dns_client:
        given, source, hosts_file = settings.resolver_address, "resolver_address", settings.resolver_hosts_file
        types, srv_of_services_only = [text.upper() for text in settings.resolver_family], True
    else:
        given, source, hosts_file = settings.dns_resolver, "dns_resolver", settings.dns_hostsfile
        types, srv_of_services_only = [text.upper() for text in settings.dns_order], False
    found, search, ndots = read_resolv_conf(_text(settings.dns_resolv_conf))
    servers = [place for text in given if (place := server_of(text)) is not None]
    if not servers:
        servers, source = found, settings.dns_resolv_conf
    if settings.new_dns_client:
        types = [kind for kind in TYPES if kind in types]
    return Resolution(
        servers=servers,
        source=source,
        types=[kind for kind in types if kind in TYPES] or ["A"],
        srv_of_services_only=srv_of_services_only,
        search=search,
        ndots=ndots,
        hosts=read_hosts(_text(hosts_file)),
    )


def read_resolv_conf(text: str) -> tuple[list[Place], list[str], int]:
    """Servers, search domains, ndots; lines that mean nothing are passed over."""
    servers: list[Place] = []
    search: list[str] = []
    ndots = 1
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1 and len(servers) < MOST_SERVERS:
            place = server_of(words[1])
            servers += [place] if place is not None else []
        elif words[0] in ("domain", "search"):
            most = 1 if words[0] == "domain" else MOST_SEARCH
            search = [word.rstrip(".").lower() for word in words[1 : most + 1] if word.rstrip(".")]
        elif words[0] == "options":
            for option in words[1:]:
                key, _, value = option.partition(":")
                if key == "ndots" and value.isascii() and value.isdigit():
                    ndots = min(int(value[:4]), MOST_NDOTS)
    return servers, search, ndots


def read_hosts(text: str) -> dict[str, list[str]]:
    """Names in lower case with their addresses; IPv4 alone where a name has both."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not is_address(words[0]):
            continue
        for name in words[1:]:
            found.setdefault(name.lower(), []).append(words[0])
    return {name: [ip for ip in ips if ":" not in ip] or ips for name, ips in found.items()}


def server_of(text: str) -> Place | None:
    """A name server of `ip`, `ip:port`, `[ip]:port`; None: it is none."""
    if is_address(text):
        return Place(text, DNS_PORT)
    host, _, port = text.rpartition(":")
    host = host.strip("[]") if host else text.strip("[]")
    if not is_address(host):
        return None
    return Place(host, int(port) if port.isascii() and port.isdigit() and host != text else DNS_PORT)


def is_address(text: str) -> bool:
    """Whether it is an IP address, which needs no look-up."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
