# SPDX-License-Identifier: Apache-2.0
"""What is a Route?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.entities import common
from pylae.schema import (
    Check,
    Entity,
    Field,
    Variant,
    conditional,
    conditional_at_least_one_of,
    custom,
    field,
    kinds,
)
from pylae.schema.rules import regex_problem, router_regex_problem

_STREAM: Final = "'tcp', 'tls', 'tls_passthrough' or 'udp'"
_GRPC: Final = "'grpc' or 'grpcs'"
_HTTP: Final = "'http' or 'https'"


def _forbidden(kind: Field, name: str, protocols: str) -> Field:
    """A field that must stay null under some protocols."""
    return kind.but(eq=None, error=f"cannot set '{name}' when 'protocols' is {protocols}")


def _at_least_one(plain: str, secure: str, matchers: tuple[str, ...]) -> Check:
    return conditional_at_least_one_of(
        "protocols",
        {"contains": secure},
        (*matchers, "snis"),
        then_error=f"must set one of %s when 'protocols' is '{secure}'",
        else_match={"contains": plain},
        else_then_at_least_one_of=matchers,
        else_then_error=f"must set one of %s when 'protocols' is '{plain}'",
    )


def _router_takes_it(row: Mapping[str, Any]) -> str | None:
    """Whether the router can match by what the fields say, each proper in itself."""
    headers = row["headers"] or {}
    expressions = [path[1:] for path in row["paths"] or () if path.startswith("~")]
    for expression in expressions + [value[2:] for values in headers.values() for value in values if value.startswith("~*")]:
        problem = regex_problem(expression) or router_regex_problem(expression)
        if problem is not None:
            return f"Router Expression failed validation: regex parse error: `{expression}`: {problem}"
    if headers and not any(headers.values()) and not any(row[name] for name in ("methods", "hosts", "paths", "snis")):
        return "Router Expression failed validation:  --> 1:2\n  |\n1 | ()\n  |  ^---\n  |\n  = expected term"
    return None


_HTTP_VARIANT: Final = Variant(
    {
        "sources": _forbidden(common.addresses(), "sources", _HTTP),
        "destinations": _forbidden(common.addresses(), "destinations", _HTTP),
    },
    [_at_least_one("http", "https", ("methods", "hosts", "headers", "paths"))],
)
_GRPC_VARIANT: Final = Variant(
    {
        "strip_path": field(
            kinds.boolean(ne=True, error=f"cannot set 'strip_path' when 'protocols' is {_GRPC}"),
            required=True,
            default=False,
            doc="Never, under gRPC: the path is the name of the method called.",
        ),
        "methods": _forbidden(common.methods(), "methods", _GRPC),
        "sources": _forbidden(common.addresses(), "sources", _GRPC),
        "destinations": _forbidden(common.addresses(), "destinations", _GRPC),
    },
    [_at_least_one("grpc", "grpcs", ("hosts", "headers", "paths"))],
)
_STREAM_VARIANT: Final = Variant(
    {
        "methods": _forbidden(common.methods(), "methods", _STREAM),
        "hosts": _forbidden(common.route_hosts(), "hosts", _STREAM),
        "paths": _forbidden(common.route_paths(), "paths", _STREAM),
        "headers": _forbidden(common.route_headers(), "headers", _STREAM),
    },
    [
        conditional_at_least_one_of(
            "protocols",
            {"elements": {"one_of": ["tcp", "tls", "udp"]}},
            ("sources", "destinations", "snis"),
            then_error="must set one of %s when 'protocols' is 'tcp', 'tls' or 'udp'",
        ),
        conditional_at_least_one_of(
            "protocols",
            {"elements": {"one_of": ["tls_passthrough"]}},
            ("snis",),
            then_error="must set snis when 'protocols' is 'tls_passthrough'",
        ),
    ],
)
_VARIANTS: Final[dict[str, Variant]] = {
    "http": _HTTP_VARIANT,
    "https": _HTTP_VARIANT,
    "grpc": _GRPC_VARIANT,
    "grpcs": _GRPC_VARIANT,
    "tcp": _STREAM_VARIANT,
    "tls": _STREAM_VARIANT,
    "tls_passthrough": _STREAM_VARIANT,
    "udp": _STREAM_VARIANT,
}


class Route(Entity):
    """Which requests go to a Service."""

    table = "routes"
    endpoint_key = "name"
    subschema_key = "protocols"

    id: str = field(common.uuid, doc="Identifies the Route.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    name: str | None = field(common.utf8_name, doc="Names the Route in URLs of the Admin API.")
    protocols: list[str] = field(
        kinds.set_of(
            common.protocol,
            len_min=1,
            mutually_exclusive_subsets=[["http", "https"], ["tcp", "tls", "udp"], ["tls_passthrough"], ["grpc", "grpcs"]],
        ),
        required=True,
        default=["http", "https"],
        doc="The protocols it takes requests in; one over TLS only sends others to it.",
    )
    https_redirect_status_code: int = field(
        kinds.integer(one_of=[426, 301, 302, 307, 308]),
        required=True,
        default=426,
        doc="The status that a plain request gets when the Route takes only those over TLS.",
    )
    strip_path: bool = field(
        kinds.boolean(), required=True, default=True, doc="Takes the matched prefix off the path that goes upstream."
    )
    preserve_host: bool = field(
        kinds.boolean(), required=True, default=False, doc="Sends the client's Host upstream instead of the Service's."
    )
    request_buffering: bool = field(
        kinds.boolean(), required=True, default=True, doc="Takes the whole request body before the upstream is chosen."
    )
    response_buffering: bool = field(
        kinds.boolean(), required=True, default=True, doc="Reads ahead of a slow client, so that the upstream is let go."
    )
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    service: dict[str, str] | None = field(kinds.foreign("services"), doc="Where matching requests go.")
    snis: list[str] | None = field(
        kinds.set_of(kinds.string(rule="wildcard_host")), doc="Matches the server name of the TLS handshake."
    )
    sources: list[dict[str, Any]] | None = field(common.addresses(), doc="Matches the client's address of a stream.")
    destinations: list[dict[str, Any]] | None = field(common.addresses(), doc="Matches the address that a stream was sent to.")
    methods: list[str] | None = field(common.methods(), doc="Matches the method.")
    hosts: list[str] | None = field(
        common.route_hosts(), doc="Matches the Host; an asterisk stands for the first or the last labels."
    )
    paths: list[str] | None = field(
        common.route_paths(), doc="Matches the path by prefix, or by a regular expression after a tilde."
    )
    headers: dict[str, list[str]] | None = field(common.route_headers(), doc="Matches other headers by their values.")
    regex_priority: int = field(
        kinds.integer(), default=0, doc="Orders Routes whose regular expressions match the same path, highest first."
    )
    path_handling: str = field(
        kinds.string(one_of=["v0", "v1"]), default="v0", doc="How the paths of Service and request are joined."
    )

    checks = (
        conditional(
            "protocols",
            {"elements": {"not_one_of": ["grpcs", "https", "tls", "tls_passthrough"]}},
            "snis",
            {"len_eq": 0},
            then_error="'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        ),
        custom("methods", "hosts", "paths", "headers", "snis", rule=_router_takes_it),
    )

    @classmethod
    def variant(cls, key: str) -> Variant | None:
        """The rules that the first of the protocols brings."""
        return _VARIANTS.get(key)
