# SPDX-License-Identifier: Apache-2.0
"""What is a Route?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

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
_FAILED: Final = "Router Expression failed validation"
_CLASSIC: Final = ("methods", "hosts", "paths", "headers", "snis", "sources", "destinations")
_PRIORITY_MAX: Final = 2**46 - 1


def _forbidden(kind: Field, name: str, protocols: str) -> Field:
    """A field that must stay null under some protocols."""
    return kind.but(eq=None, error=f"cannot set '{name}' when 'protocols' is {protocols}")


def _at_least_one(plain: str, secure: str, matchers: tuple[str, ...], others: tuple[str, ...]) -> Check:
    return conditional_at_least_one_of(
        "protocols",
        {"contains": secure},
        (*matchers, "snis", *others),
        then_error=f"must set one of %s when 'protocols' is '{secure}'",
        else_match={"contains": plain},
        else_then_at_least_one_of=(*matchers, *others),
        else_then_error=f"must set one of %s when 'protocols' is '{plain}'",
    )


def _router_takes_it(row: Mapping[str, Any]) -> str | None:
    """Whether the router can match by what the fields say, each proper in itself."""
    problem = _router_takes_regexes(row)
    if problem is not None:
        return problem
    headers = row["headers"]
    if headers and not any(headers.values()) and not any(row[name] for name in ("methods", "hosts", "paths", "snis")):
        return f"{_FAILED}:  --> 1:2\n  |\n1 | ()\n  |  ^---\n  |\n  = expected term"
    return None


def _router_takes_regexes(row: Mapping[str, Any]) -> str | None:
    headers, paths = row["headers"] or {}, row["paths"] or ()
    expressions = [path[1:] for path in paths if path[0] == "~"]
    if headers:
        expressions += [value[2:] for values in headers.values() for value in values if value.startswith("~*")]
    for expression in expressions:
        problem = regex_problem(expression) or router_regex_problem(expression)
        if problem is not None:
            return f"{_FAILED}: regex parse error: `{expression}`: {problem}"
    return None


def _is_one_of_two_kinds(row: Mapping[str, Any]) -> str | None:
    """Whether a Route is told by an expression or by fields, not by both."""
    listed = "'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations'"
    has_fields = any(row[name] for name in _CLASSIC)
    if row["expression"] is not None:
        if has_fields:
            return f"{_FAILED}: cannot set 'expression' with {listed} simultaneously"
        if row["regex_priority"]:
            return f"{_FAILED}: cannot set 'regex_priority' with 'expression' simultaneously"
        return _expression_problem(row)
    if has_fields and row["priority"]:
        return f"{_FAILED}: cannot set 'priority' with {listed} simultaneously"
    return None


def _expression_problem(row: Mapping[str, Any]) -> str | None:
    """What is wrong with an expression, as the router itself says it."""
    # Not at the top: only this flavor needs the extension here.
    from pylae._core import check_expression

    is_stream = not any(name in common.HTTP_PROTOCOLS for name in row["protocols"] or ())
    problem = check_expression(row["expression"], is_stream=is_stream)
    return None if problem is None else f"{_FAILED}: {problem}"


def _variants(*others: str, streams_only: bool) -> dict[str, Variant]:
    """The rules by the first of the protocols.

    Args:
        others: fields that may stand for the matching ones.
        streams_only: whether addresses are matched for streams only.
    """

    def addresses(protocols: str) -> dict[str, Field]:
        if not streams_only:
            return {}
        return {name: _forbidden(common.addresses(), name, protocols) for name in ("sources", "destinations")}

    http = Variant(addresses(_HTTP), [_at_least_one("http", "https", ("methods", "hosts", "headers", "paths"), others)])
    grpc = Variant(
        {
            "strip_path": field(
                kinds.boolean(ne=True, error=f"cannot set 'strip_path' when 'protocols' is {_GRPC}"),
                required=True,
                default=False,
                doc="Never, under gRPC: the path is the name of the method called.",
            ),
            "methods": _forbidden(common.methods(), "methods", _GRPC),
            **addresses(_GRPC),
        },
        [_at_least_one("grpc", "grpcs", ("hosts", "headers", "paths"), others)],
    )
    stream = Variant(
        {
            "methods": _forbidden(common.methods(), "methods", _STREAM),
            "hosts": _forbidden(common.route_hosts(), "hosts", _STREAM),
            "paths": _forbidden(common.route_paths(), "paths", _STREAM),
            "headers": _forbidden(
                kinds.map_of(common.header_name, kinds.array(kinds.string())),
                "headers",
                _STREAM,
            ),
        },
        [
            conditional_at_least_one_of(
                "protocols",
                {"elements": {"one_of": ["tcp", "tls", "udp"]}},
                ("sources", "destinations", "snis", *others),
                then_error="must set one of %s when 'protocols' is 'tcp', 'tls' or 'udp'",
            ),
            conditional_at_least_one_of(
                "protocols",
                {"elements": {"one_of": ["tls_passthrough"]}},
                ("snis", *others),
                then_error="must set snis when 'protocols' is 'tls_passthrough'",
            ),
        ],
    )
    return {
        **dict.fromkeys(("http", "https"), http),
        **dict.fromkeys(("grpc", "grpcs"), grpc),
        **dict.fromkeys(("tcp", "tls", "tls_passthrough", "udp"), stream),
    }


_SNIS_NEED_TLS: Final = conditional(
    "protocols",
    {"elements": {"not_one_of": ["grpcs", "https", "tls", "tls_passthrough"]}},
    "snis",
    {"len_eq": 0},
    then_error="'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
)


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

    checks: ClassVar[Sequence[Check]] = (
        _SNIS_NEED_TLS,
        custom("methods", "hosts", "paths", "headers", "snis", rule=_router_takes_it),
    )

    _by_protocol: ClassVar[Mapping[str, Variant]] = _variants(streams_only=True)

    @classmethod
    def variant(cls, key: str) -> Variant | None:
        """The rules that the first of the protocols brings."""
        return cls._by_protocol.get(key)


class TraditionalRoute(Route):
    """Which requests go to a Service, under `router_flavor = traditional`."""

    snis: list[str] | None = field(kinds.set_of(kinds.string(rule="sni")), doc="Matches the server name of the TLS handshake.")

    checks = (_SNIS_NEED_TLS, custom("methods", "hosts", "paths", "headers", "snis", rule=_router_takes_regexes))


class ExpressionsRoute(Route):
    """Which requests go to a Service, under `router_flavor = expressions`."""

    expression: str | None = field(kinds.string(), doc="Matches requests for which it holds, in place of all other fields.")
    priority: int = field(
        kinds.integer(between=(0, _PRIORITY_MAX)),
        required=True,
        default=0,
        doc="Orders Routes whose expressions hold for the same request, highest first.",
    )

    checks = (
        *Route.checks,
        custom(*_CLASSIC, "protocols", "expression", "regex_priority", "priority", rule=_is_one_of_two_kinds),
    )

    _by_protocol = _variants("expression", streams_only=False)


ROUTE_OF_FLAVOR: Final[Mapping[str, type[Route]]] = {
    "traditional": TraditionalRoute,
    "traditional_compatible": Route,
    "expressions": ExpressionsRoute,
}
"""By the setting `router_flavor`."""
