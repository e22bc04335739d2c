# SPDX-License-Identifier: Apache-2.0
"""Which declarations do several entities share?"""

from __future__ import annotations

from typing import Final

from pylae.schema import Field, Pattern, Record, at_least_one_of, field, kinds

PROTOCOLS: Final = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
HTTP_PROTOCOLS: Final = ("grpc", "grpcs", "http", "https")
PORT: Final = (0, 65535)
TIMEOUT_MS: Final = (1, 2**31 - 2)

uuid: Final = kinds.string(uuid=True, auto=True)
timestamp_s: Final = kinds.integer(timestamp=True, auto=True)
timestamp_ms: Final = kinds.number(timestamp=True, auto=True)
tags: Final = kinds.set_of(kinds.string(rule="tag", required=True))
utf8_name: Final = kinds.string(rule="utf8_name", unique=True)
port: Final = kinds.integer(between=PORT)
path: Final = kinds.string(starts_with="/", match_none=[("//", "must not have empty segments")], rule="path")
ip: Final = kinds.string(rule="ip")
host: Final = kinds.string(rule="host")
header_name: Final = kinds.string(rule="header_name")
method: Final = kinds.string(match=Pattern("^%u+$", "^[A-Z]+$"))
protocol: Final = kinds.string(one_of=PROTOCOLS)


semantic_version: Final = kinds.string(
    match_none=[(Pattern("%.%.", r"\.\."), "must not have empty version segments")],
    match_any=(
        (Pattern("^%d+[%.%d]*$", r"^[0-9]+[\.0-9]*$"), Pattern("^%d+[%.%d]*%-?.*$", r"^[0-9]+[\.0-9]*\-?.*$")),
        "invalid version number: must be in format of X.Y.Z",
    ),
)


class Address(Record):
    """An address and a port, or one of them, of a connection."""

    ip: str | None = field(kinds.string(rule="ip_or_cidr"), doc="Matches this address or range of addresses.")
    port: int | None = field(kinds.integer(between=PORT), doc="Matches this port.")

    checks = (at_least_one_of("ip", "port"),)


def addresses(**limits: object) -> Field:
    """A set of addresses."""
    return kinds.set_of(kinds.record(Address), **limits)


def route_hosts(**limits: object) -> Field:
    """Host names with a wildcard at one end."""
    element = kinds.string(
        match_all=[
            (Pattern("^[^*]*%*?[^*]*$", r"^[^*]*\*?[^*]*$"), "invalid wildcard: must have at most one wildcard"),
        ],
        match_any=(
            (Pattern("^%*%.", r"^\*\."), Pattern("%.%*$", r"\.\*$"), Pattern("^[^*]*$", r"^[^*]*$")),
            "invalid wildcard: must be placed at leftmost or rightmost label",
        ),
        rule="route_host",
    )
    return kinds.array(element, **limits)


def route_paths(**limits: object) -> Field:
    """Prefixes, and regular expressions after `~`."""
    element = kinds.string(
        match_none=[("//", "must not have empty segments")],
        match_any=(
            (Pattern("^/", "^/"), Pattern("^~/", r"^~/")),
            "should start with: / (fixed path) or ~/ (regex path)",
        ),
        rule="router_path",
    )
    return kinds.array(element, **limits)


def methods(**limits: object) -> Field:
    """HTTP methods."""
    return kinds.set_of(method, **limits)


def route_headers(**limits: object) -> Field:
    """Header names with the values that match."""
    pattern = Pattern("^[Hh][Oo][Ss][Tt]$", "^[Hh][Oo][Ss][Tt]$")
    message = "cannot contain 'host' header, which must be specified in the 'hosts' attribute"
    return kinds.map_of(header_name.but(match_none=[(pattern, message)]), kinds.array(kinds.string()), **limits)
