# SPDX-License-Identifier: Apache-2.0
"""What is a Service?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.entities import common
from pylae.schema import Entity, conditional, field, kinds, shorthand
from pylae.schema.rules import parse_url

_WITHOUT_PATH = ("tcp", "tls", "udp", "grpc", "grpcs")
_WITH_TLS = ("https", "tls")
_SCHEME_OF_PORT = {80: "http", 443: "https"}
_PORT_OF_SCHEME = {"https": 443}


def _expand_url(value: str | None, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a shorthand's signature
    """The fields that a URL stands for; a host or path that it does not name becomes null."""
    if value is None:
        return {"protocol": None, "host": None, "port": None, "path": None}
    url = parse_url(value)
    port: Any = url.port
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    scheme = url.scheme if url.scheme is not None else _SCHEME_OF_PORT.get(port, "http")
    if port is None:
        port = _PORT_OF_SCHEME.get(scheme, 80)
    return {"protocol": scheme, "host": url.host, "port": port, "path": url.path}


class Service(Entity):
    """An API that stands behind the gateway."""

    table = "services"
    endpoint_key = "name"

    id: str = field(common.uuid, doc="Identifies the Service.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    name: str | None = field(common.utf8_name, doc="Names the Service in URLs of the Admin API.")
    retries: int = field(
        kinds.integer(between=(0, 32767)), default=5, unit="attempts", doc="How often a failed attempt is followed by another."
    )
    protocol: str = field(common.protocol, required=True, default="http", doc="How the upstream is spoken to.")
    host: str = field(
        kinds.string(rule="host"), required=True, doc="The upstream's host name or address, or the name of an Upstream."
    )
    port: int = field(common.port, required=True, default=80, doc="The upstream's port, unless an Upstream says otherwise.")
    path: str | None = field(common.path, doc="Goes before the path of every request.")
    connect_timeout: int = field(
        kinds.integer(between=common.TIMEOUT_MS),
        default=60000,
        unit="milliseconds",
        doc="Longest wait for a connection to the upstream.",
    )
    write_timeout: int = field(
        kinds.integer(between=common.TIMEOUT_MS),
        default=60000,
        unit="milliseconds",
        doc="Longest wait between two writes to the upstream.",
    )
    read_timeout: int = field(
        kinds.integer(between=common.TIMEOUT_MS),
        default=60000,
        unit="milliseconds",
        doc="Longest wait between two reads from the upstream.",
    )
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    client_certificate: dict[str, str] | None = field(
        kinds.foreign("certificates"), doc="Shown to the upstream in the TLS handshake."
    )
    tls_verify: bool | None = field(
        kinds.boolean(), doc="Whether the upstream's certificate is checked; the gateway's setting when null."
    )
    tls_verify_depth: int | None = field(
        kinds.integer(between=(0, 64)),
        default=None,
        unit="certificates",
        doc="Longest chain accepted from the upstream; the gateway's setting when null.",
    )
    ca_certificates: list[str] | None = field(
        kinds.array(kinds.string(uuid=True)), doc="The CA certificates that the upstream's is checked against."
    )
    enabled: bool = field(kinds.boolean(), required=True, default=True, doc="Whether its Routes take part in matching.")

    checks = (
        conditional("protocol", {"one_of": _WITHOUT_PATH}, "path", {"eq": None}),
        conditional("protocol", {"not_one_of": _WITH_TLS}, "client_certificate", {"eq": None}),
        conditional("protocol", {"not_one_of": _WITH_TLS}, "tls_verify", {"eq": None}),
        conditional("protocol", {"not_one_of": _WITH_TLS}, "tls_verify_depth", {"eq": None}),
        conditional("protocol", {"not_one_of": _WITH_TLS}, "ca_certificates", {"eq": None}),
    )
    shorthands = (shorthand("url", kinds.string(), _expand_url, doc="Sets protocol, host, port and path at once; never shown."),)
