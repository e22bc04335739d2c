# SPDX-License-Identifier: Apache-2.0
"""ip-restriction: may this address call?

For APIs that only some networks may reach, or that some may not. Who is denied is refused even when allowed as well.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from pylae.plugins.ip_restriction import config as declared
from pylae.sdk import Answer, Exchange, Instance, Plugin

MAX_REMEMBERED: Final = 4_096
"""Addresses whose verdict one configuration remembers."""


class Networks:
    """Addresses and ranges of both families; an IPv4 address within IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 address."""

    __slots__ = ("_by_length",)

    def __init__(self, ranges: Iterable[str]) -> None:
        # (version, prefix length) -> the networks' first bits, so that a look costs as many steps as there are lengths.
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for one in ranges:
            version, length, bits = _range_of(one)
            self._by_length.setdefault((version, length), set()).add(bits)

    def __contains__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        number, width = int(address), address.max_prefixlen
        for (version, length), networks in self._by_length.items():
            if version == address.version and number >> (width - length) in networks:
                return True
        return False


def _range_of(text: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(text, strict=False)
    address, length = network.network_address, network.prefixlen
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None and length >= 96:
        address, length = address.ipv4_mapped, length - 96
    return address.version, length, int(address) >> (address.max_prefixlen - length)


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that counts: without a zone, and IPv4 where it is one within IPv6."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Prepared:
    """A configuration with its ranges read, and the verdicts on addresses it has met."""

    __slots__ = ("_allow", "_deny", "_verdicts", "message", "status")

    def __init__(self, config: declared.Config) -> None:
        self._allow = Networks(config.allow) if config.allow else None
        self._deny = Networks(config.deny) if config.deny else None
        self.status = int(config.status) if config.status else 403
        self.message = config.message
        self._verdicts: OrderedDict[str, bool] = OrderedDict()

    def lets_in(self, ip: str) -> bool:
        """May it call?"""
        known = self._verdicts.get(ip)
        if known is None:
            known = self._judge(ip)
            self._verdicts[ip] = known
            if len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
        return known

    def _judge(self, ip: str) -> bool:
        address = address_of(ip)
        if self._deny is not None and address in self._deny:
            return False
        return self._allow is None or address in self._allow


class IpRestriction(Plugin):
    """Lets in, or refuses, by the client's address."""

    name = "ip-restriction"
    version = "3.10.0"
    priority = 990
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    default_protocols = ("http", "https", "tcp", "tls", "grpc", "grpcs")
    is_pure = True
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Reads the ranges."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Judges the address that `trusted_ips` and `real_ip_header` leave."""
        ip = exchange.client.forwarded_ip
        if config.lets_in(ip):
            return None
        return exchange.error(config.status, config.message or f"IP address not allowed: {ip}")
