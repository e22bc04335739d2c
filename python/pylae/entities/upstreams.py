# SPDX-License-Identifier: Apache-2.0
"""What is an Upstream?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.entities import common
from pylae.schema import Entity, Pattern, Record, conditional, distinct, field, kinds, shorthand

_COUNT: Final = (0, 255)
_SECONDS: Final = (0, 65535)
_PROBES: Final = ("tcp", "http", "https", "grpc", "grpcs")
_HASH_INPUTS: Final = ("none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture")
_PASSIVE_HEALTHY: Final = (
    *(200, 201, 202, 203, 204, 205, 206, 207, 208, 226),
    *(300, 301, 302, 303, 304, 305, 306, 307, 308),
)

_statuses: Final = kinds.array(kinds.integer(between=(100, 999)))
_count: Final = kinds.integer(between=_COUNT)
_interval: Final = kinds.number(between=_SECONDS)


class ActiveHealthy(Record):
    """When a probe finds a Target healthy."""

    http_statuses: list[int] = field(_statuses, default=[200, 302], doc="The statuses that count as a success.")
    interval: float = field(_interval, default=0, unit="seconds", doc="Time between probes of healthy Targets; 0 for none.")
    successes: int = field(_count, default=0, unit="successes", doc="How many in a row make a Target healthy; 0 for never.")


class ActiveUnhealthy(Record):
    """When a probe finds a Target unhealthy."""

    tcp_failures: int = field(_count, default=0, unit="failures", doc="Refused connections that make a Target unhealthy.")
    timeouts: int = field(_count, default=0, unit="failures", doc="Timeouts that make a Target unhealthy.")
    http_failures: int = field(_count, default=0, unit="failures", doc="Failing statuses that make a Target unhealthy.")
    interval: float = field(_interval, default=0, unit="seconds", doc="Time between probes of unhealthy Targets; 0 for none.")
    http_statuses: list[int] = field(
        _statuses, default=[429, 404, 500, 501, 502, 503, 504, 505], doc="The statuses that count as a failure."
    )


class Active(Record):
    """Probes that the gateway sends."""

    unhealthy: dict[str, Any] = field(kinds.record(ActiveUnhealthy), doc="When a Target is taken out.")
    timeout: float = field(kinds.number(between=_SECONDS), default=1, unit="seconds", doc="Longest wait for a probe's answer.")
    type: str = field(kinds.string(one_of=_PROBES), default="http", doc="How Targets are probed.")
    concurrency: int = field(
        kinds.integer(between=(1, 2**31)), default=10, unit="probes", doc="How many Targets are probed at a time."
    )
    http_path: str = field(common.path, default="/", doc="The path asked for.")
    https_sni: str | None = field(kinds.string(rule="sni"), required=False, doc="The server name of the TLS handshake.")
    https_verify_certificate: bool = field(
        kinds.boolean(), required=True, default=True, doc="Whether a Target's certificate is checked."
    )
    healthy: dict[str, Any] = field(kinds.record(ActiveHealthy), doc="When a Target is taken back.")
    headers: dict[str, list[str]] | None = field(
        kinds.map_of(common.header_name, kinds.array(kinds.string())), required=False, doc="Headers of the probe."
    )


class PassiveUnhealthy(Record):
    """When traffic shows that a Target is unhealthy."""

    timeouts: int = field(_count, default=0, unit="failures", doc="Timeouts that make a Target unhealthy.")
    tcp_failures: int = field(_count, default=0, unit="failures", doc="Refused connections that make a Target unhealthy.")
    http_statuses: list[int] = field(_statuses, default=[429, 500, 503], doc="The statuses that count as a failure.")
    http_failures: int = field(_count, default=0, unit="failures", doc="Failing statuses that make a Target unhealthy.")


class PassiveHealthy(Record):
    """When traffic shows that a Target is healthy."""

    http_statuses: list[int] = field(_statuses, default=list(_PASSIVE_HEALTHY), doc="The statuses that count as a success.")
    successes: int = field(_count, default=0, unit="successes", doc="How many in a row make a Target healthy; 0 for never.")


class Passive(Record):
    """What is learned from the traffic itself."""

    unhealthy: dict[str, Any] = field(kinds.record(PassiveUnhealthy), doc="When a Target is taken out.")
    healthy: dict[str, Any] = field(kinds.record(PassiveHealthy), doc="When a Target is taken back.")
    type: str = field(kinds.string(one_of=_PROBES), default="http", doc="What is looked at: connections, or statuses too.")


class Healthchecks(Record):
    """How it is found out which Targets can be used."""

    active: dict[str, Any] = field(kinds.record(Active), doc="Probes that the gateway sends.")
    passive: dict[str, Any] = field(kinds.record(Passive), doc="What is learned from the traffic itself.")
    threshold: float = field(
        kinds.number(between=(0, 100)),
        default=0,
        unit="percent of weight",
        doc="The share of healthy Targets below which the whole Upstream counts as unhealthy.",
    )


def _is(word: str) -> dict[str, Any]:
    return {"match": Pattern(f"^{word}$", f"^{word}$")}


def _fallback_for(hash_on: str, *allowed: str) -> Any:
    return conditional("hash_on", _is(hash_on), "hash_fallback", {"one_of": allowed})


def _needs(decides: str, word: str, needed: str) -> Any:
    return conditional(decides, _is(word), needed, {"required": True})


def _expand_algorithm(value: str | None, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a shorthand's signature
    """Algorithms that do not hash forget what was hashed on."""
    if value in ("least-connections", "latency"):
        return {"algorithm": value, "hash_on": None}
    return {"algorithm": value}


def _expand_hash_on(value: str | None, given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a shorthand's signature
    """What is hashed on says which algorithm is meant."""
    if value is None:
        return {"hash_on": "none"}
    return {"hash_on": value, "algorithm": "round-robin" if value == "none" else "consistent-hashing"}


class Upstream(Entity):
    """A virtual host name with several Targets behind it."""

    table = "upstreams"
    endpoint_key = "name"

    id: str = field(common.uuid, doc="Identifies the Upstream.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    name: str = field(
        kinds.string(rule="upstream_name"), required=True, unique=True, doc="The host name by which Services refer to it."
    )
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    algorithm: str = field(
        kinds.string(one_of=["consistent-hashing", "least-connections", "round-robin", "latency"]),
        default="round-robin",
        doc="How a Target is chosen.",
    )
    hash_on: str = field(kinds.string(one_of=_HASH_INPUTS), default="none", doc="What of the request is hashed.")
    hash_fallback: str = field(
        kinds.string(one_of=_HASH_INPUTS), default="none", doc="What is hashed when the request lacks the first."
    )
    hash_on_header: str | None = field(common.header_name, doc="The header that is hashed.")
    hash_fallback_header: str | None = field(common.header_name, doc="The header that is hashed in its place.")
    hash_on_cookie: str | None = field(
        kinds.string(rule="cookie_name"), doc="The cookie that is hashed, and set when the request has none."
    )
    hash_on_cookie_path: str = field(common.path, default="/", doc="The path of the cookie that is set.")
    hash_on_query_arg: str | None = field(kinds.string(len_min=1), doc="The query argument that is hashed.")
    hash_fallback_query_arg: str | None = field(kinds.string(len_min=1), doc="The query argument that is hashed in its place.")
    hash_on_uri_capture: str | None = field(
        kinds.string(len_min=1), doc="The group of the Route's regular expression that is hashed."
    )
    hash_fallback_uri_capture: str | None = field(kinds.string(len_min=1), doc="The group that is hashed in its place.")
    slots: int = field(
        kinds.integer(between=(10, 65536)), default=10000, unit="slots", doc="Size of the ring for consistent hashing."
    )
    healthchecks: dict[str, Any] = field(kinds.record(Healthchecks), doc="How it is found out which Targets can be used.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    host_header: str | None = field(
        kinds.string(rule="host_with_optional_port"), doc="The Host sent upstream unless the Route keeps the client's."
    )
    client_certificate: dict[str, str] | None = field(kinds.foreign("certificates"), doc="Shown to Targets in the TLS handshake.")
    use_srv_name: bool = field(kinds.boolean(), default=False, doc="Sends the name of the SRV record as Host.")

    checks = (
        _needs("hash_on", "header", "hash_on_header"),
        _needs("hash_fallback", "header", "hash_fallback_header"),
        _needs("hash_on", "cookie", "hash_on_cookie"),
        _needs("hash_fallback", "cookie", "hash_on_cookie"),
        _fallback_for("none", "none"),
        _fallback_for("cookie", "none"),
        _fallback_for("consumer", "none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"),
        _fallback_for("ip", "none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"),
        _fallback_for("path", "none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"),
        distinct("hash_on_header", "hash_fallback_header"),
        _needs("hash_on", "query_arg", "hash_on_query_arg"),
        _needs("hash_fallback", "query_arg", "hash_fallback_query_arg"),
        distinct("hash_on_query_arg", "hash_fallback_query_arg"),
        _needs("hash_on", "uri_capture", "hash_on_uri_capture"),
        _needs("hash_fallback", "uri_capture", "hash_fallback_uri_capture"),
        distinct("hash_on_uri_capture", "hash_fallback_uri_capture"),
    )
    shorthands = (
        shorthand("algorithm", kinds.string(), _expand_algorithm, doc="Forgets what is hashed when nothing is."),
        shorthand("hash_on", kinds.string(), _expand_hash_on, doc="Chooses the algorithm that goes with it."),
    )
