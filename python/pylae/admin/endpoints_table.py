# SPDX-License-Identifier: Apache-2.0
"""Which endpoints of the Admin API are not those of an entity, and what do they take and answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """One operation, in the terms of `pylae.admin.openapi`."""

    method: str
    path: str
    operation_id: str
    tag: str
    summary: str
    answers: Mapping[int, tuple[str, Json | None]]
    """Text and schema by status; without a schema there is no body."""
    answers_named: Sequence[str] = ()
    """More answers, by the name of their component."""
    query: Sequence[str | Json] = ()
    """Parameters, or the names of their components."""
    body: Json | None = None
    body_types: Sequence[str] = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    media_type: str | None = None
    """Of what is answered, where it is not JSON."""
    deprecated: bool = False


TAGS: Final[Mapping[str, str]] = {
    "node": "The node itself, its plugins and its endpoints.",
    "schemas": "What may be stored, and whether it would be.",
    "health": "How the node, its Upstreams and their Targets do.",
    "declarative configuration": "The whole configuration at once, where there is no database.",
    "diagnosis": "Why requests fail, and what will soon make them.",
    "cluster": "The data planes of a control plane.",
    "debug": "What is logged, and what is kept in memory.",
    "tags": "Words on rows.",
    "plugins' own": "Endpoints that a plugin brings.",
    "description": "This description.",
}


NOT_FOUND: Final = frozenset({"/snis/{snis}/certificate"})
"""What would follow from a declaration and answers 404, because Kong has no such endpoint."""


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, required: Sequence[str] = (), *, open_: bool = False) -> Json:
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    return made if open_ else {**made, "additionalProperties": False}


def _page(row: Json, more: Json | None = None) -> Json:
    properties: Json = {
        "data": {"type": "array", "items": row},
        "next": {"type": ["string", "null"]},
        "offset": _TEXT,
        **(more or {}),
    }
    return _object(properties, ("data", "next"))


def _says(text: str) -> Json:
    """A sentence that is always the same."""
    return _object({"message": {"const": text}}, ("message",))


_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer"}
_FLAG: Final[Json] = {"type": "boolean"}
_UUID: Final[Json] = {"type": "string", "format": "uuid"}
_NAMES: Final[Json] = {"type": "array", "items": _TEXT}
_MESSAGE: Final = _ref("message")
_ANY: Final[Json] = {}
_OBJECT: Final[Json] = {"type": "object"}
_OBJECTS: Final[Json] = {"type": "array", "items": _OBJECT}
_NO_WASM: Final = "this endpoint is only available when wasm is enabled"

_MAYBE_TEXT: Final[Json] = {"type": ["string", "null"]}
_MAYBE_NUMBER: Final[Json] = {"type": ["number", "null"]}
_MAYBE_OBJECT: Final[Json] = {"type": ["object", "null"]}
_NAMED: Final[Json] = {**_object({"id": _MAYBE_TEXT, "name": _MAYBE_TEXT}, ("id", "name")), "type": ["object", "null"]}
_KIND: Final[Json] = {"enum": ["failed", "refused", "recovered", "probe", "sample"]}
_HOP: Final[Json] = {"enum": ["client", "first_lb", "gateway", "plugin", "dns", "network", "second_lb", "upstream", None]}
_CONFIDENCE: Final[Json] = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "description": "From 0.8 on no other hop can be.",
}
_ABOUT_REQUEST: Final[Json] = {
    "request_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "time": _MAYBE_TEXT,
    "kind": _KIND,
    "status": {"type": ["integer", "null"]},
    "duration_ms": _MAYBE_NUMBER,
}
_EXPLAINED: Final[Json] = _object(
    {
        **_ABOUT_REQUEST,
        **dict.fromkeys(("route", "service"), _NAMED),
        "request": _object(dict.fromkeys(("method", "host", "path"), _MAYBE_TEXT)),
        "cause": {"type": ["string", "null"], "description": "The fault."},
        "hop": _HOP,
        "phase": _TEXT,
        "confidence": _CONFIDENCE,
        "summary": _TEXT,
        "probe": {"type": ["string", "null"], "description": "The number of a marked request."},
    },
    (*_ABOUT_REQUEST, "route", "service", "request", "cause", "hop", "phase", "confidence", "summary", "probe"),
)
_VERDICT: Final[Json] = _object(
    {
        "hop": _HOP,
        "phase": _TEXT,
        "cause": {"type": ["string", "null"], "description": "The fault."},
        "finding": {"type": "string", "description": "The diagnosis within the cause."},
        "summary": _TEXT,
        "confidence": _CONFIDENCE,
        "evidence": _NAMES,
        "cure": {"type": "array", "items": _TEXT, "description": "Sentences, and exact calls."},
        "probes": {"type": "array", "items": _TEXT, "description": "What would tell, where the confidence is below 0.8."},
        "written_by": {"type": ["string", "null"], "description": "Who wrote the answer that came from behind."},
        "flags": {"type": "object", "additionalProperties": _MAYBE_TEXT, "description": "How Envoy, Tyk and RFC 9209 name it."},
    },
    ("hop", "phase", "cause", "finding", "summary", "confidence", "evidence", "cure", "probes", "written_by", "flags"),
)
_DESCRIBED: Final = _object(
    {
        "url": {"type": "string", "description": "Scheme, host, path and query at once."},
        "method": {"type": "string", "default": "GET"},
        "scheme": {
            "enum": ["http", "https"],
            "default": "http",
            "description": "As the gateway sees it, behind any load balancer.",
        },
        "host": {"type": "string", "description": "As in the Host header, with its port; not said: it is not known."},
        "path": {"type": "string", "description": "As sent."},
        "query": {"description": "As sent, or a map of names and values; null is a value that is not known."},
        "headers": {"type": "object", "description": "Names and values; null is a value that is not known."},
        "client_ip": _TEXT,
        "sni": {"type": ["string", "null"], "description": "Asked for in the TLS handshake; the host's name when not said."},
        "port": {"type": "integer", "description": "Which the client connected to."},
        "consumer_id": {"type": "string", "description": "Id, or username, of the Consumer that the client is."},
        "is_trusted": {"type": "boolean", "default": False, "description": "Whether the peer is one of `trusted_ips`."},
    }
)
_MET: Final[Json] = {
    "service": _MAYBE_OBJECT,
    "upstream": _MAYBE_OBJECT,
    "upstream_path": _MAYBE_TEXT,
    "plugins": _OBJECTS,
}
_ROUTED: Final = _object(
    {
        "route": {"type": ["object", "null"], "description": "With `why`: which of its conditions hold, by which value."},
        **_MET,
        "status": {"type": ["integer", "null"], "description": "What the gateway answers by itself; null: it does not."},
        "fault": {"type": ["string", "null"], "description": "Why."},
        "outranked": {"type": "array", "items": _OBJECT, "description": "Routes that match as well."},
        "nearest": {"type": "array", "items": _OBJECT, "description": "Routes that do not match, with the conditions that fail."},
        "unknown": {"type": "array", "items": _TEXT, "description": "What would decide and is not known; none: it is certain."},
        "config": {"type": "string", "description": "The configuration that was asked."},
    },
    ("route", *_MET, "status", "fault", "outranked", "nearest", "unknown", "config"),
)
_OUTCOME: Final = _object(
    {
        "route": _NAMED,
        **_MET,
        "status": {"type": ["integer", "string", "null"], "description": "`unknown`: something else decides."},
    },
    ("route", *_MET, "status"),
)
_DRY_RUN: Final = _object(
    {
        "considered": _WHOLE,
        "changed": {
            "type": "array",
            "items": _object(
                {"request_id": _TEXT, "before": _OUTCOME, "after": _OUTCOME, "why": _NAMES},
                ("request_id", "before", "after", "why"),
            ),
        },
        "unchanged": _WHOLE,
        "unknown": {"type": "array", "items": _object({"request_id": _TEXT, "reason": _TEXT}, ("request_id", "reason"))},
    },
    ("considered", "changed", "unchanged", "unknown"),
)
_EXPLANATION: Final[Json] = _object(
    {
        **_ABOUT_REQUEST,
        "route": _object({"id": _MAYBE_TEXT, "name": _MAYBE_TEXT, "why": _OBJECTS, "nearest": _OBJECTS}),
        **dict.fromkeys(("service", "upstream", "request", "client", "answer", "milestones"), _MAYBE_OBJECT),
        **dict.fromkeys(("plugins", "attempts"), _OBJECTS),
        "verdict": _VERDICT,
        "config": {"type": ["string", "null"], "description": "The configuration it was served with."},
        "is_config_current": {"type": "boolean", "description": "Whether that is still the one in force."},
    },
    (*_ABOUT_REQUEST, "route", "plugins", "attempts", "verdict", "is_config_current"),
)

_WARNING: Final[Json] = _object(
    {
        "kind": {
            "enum": [
                *("certificate", "dns_stale", "idle_timeout", "request_header_size", "response_header_size"),
                *("timeout_order", "upstream_certificate"),
            ]
        },
        "key": {"type": "string", "description": "Tells it from others of its kind."},
        "since": {"type": "string", "format": "date-time"},
        "last_seen": {"type": "string", "format": "date-time", "description": "An hour later it is forgotten."},
        "count": {"type": "integer", "description": "How often it was seen."},
        "facts": _OBJECT,
        "text": {"type": "string", "description": "What was seen, in a sentence."},
        "cure": {"type": "array", "items": _TEXT, "description": "Sentences, and exact calls."},
    },
    ("kind", "key", "since", "last_seen", "count", "facts", "text", "cure"),
)

_WEIGHT: Final = _object({name: {"type": "number"} for name in ("total", "available", "unavailable")})
_SCHEMA: Final = _object(
    {
        "fields": {"type": "array", "items": {"type": "object", "minProperties": 1, "maxProperties": 1}},
        "entity_checks": _OBJECTS,
        "shorthand_fields": _OBJECTS,
    },
    ("fields",),
    open_=True,
)
_SOME_TEXT: Final[Json] = {"type": "string", "minLength": 1}
_AGE: Final[Json] = {"type": ["number", "null"], "description": "Since the name server answered."}
_RECORD: Final = _object(
    {
        "address": _TEXT,
        "port": {"type": ["integer", "null"], "description": "Of SRV, where it goes before any other."},
        "weight": {"type": ["integer", "null"], "description": "Of SRV."},
        "name": {"type": ["string", "null"], "description": "The host that SRV named."},
    },
    ("address", "port", "weight", "name"),
)
_ANSWER: Final[Json] = {
    "state": {
        "enum": ["fresh", "stale", "expired", "once", "failed"],
        "description": (
            "`stale`: its time is over, and it is used while it is asked for anew; `expired`: that time is over as well; "
            "`once`: its TTL is 0, each request asks; `failed`: there is no answer."
        ),
    },
    "records": {"type": "array", "items": _RECORD},
    "ttl_s": {"type": ["number", "null"], "description": "How long the answer is good."},
    "age_s": _AGE,
    "expires_in_s": {
        "type": ["number", "null"],
        "description": "When it may be asked for anew; below zero: since when; null: never.",
    },
    "usable_for_s": {
        "type": ["number", "null"],
        "description": "How long it may be used at most, stale in the end; null: without end, or there is none.",
    },
    "is_stale": {"type": "boolean", "description": "Whether its time is over: `stale` or `expired`."},
    "stale_for_s": {"type": "number", "description": "For how long its time has been over; 0: it is not."},
    "error": {"type": ["string", "null"], "description": "Why the last question was not answered."},
}
_NAME: Final = _object(
    {
        "name": _TEXT,
        "kind": {"type": "string", "description": "`A`, `AAAA`, `SRV`, `hosts` (of the hosts file), or `none`."},
        **_ANSWER,
        "server": {"type": ["string", "null"], "description": "Who answered."},
        "tried": {"type": "array", "items": _TEXT, "description": "What was asked, and to what end."},
        "took_ms": {"type": ["number", "null"], "description": "From the question to the answer."},
        "workers": {
            "type": "array",
            "items": _object(
                {
                    "index": _WHOLE,
                    "generation": _WHOLE,
                    "pid": _WHOLE,
                    "reported_age_s": {"type": "number", "description": "Since the worker said so."},
                    **_ANSWER,
                },
                ("index", "generation", "pid", "reported_age_s", *(name for name in _ANSWER if name != "records")),
            ),
        },
    },
    ("name", "kind", *_ANSWER, "server", "tried", "took_ms", "workers"),
)
_EVIDENCE: Final[Json] = {
    "description": "Not in Kong: what is known of the address; absent: nobody looked at it yet.",
    **_object(
        {
            "state": {"enum": ["healthy", "mostly_healthy", "mostly_unhealthy", "unhealthy", "ejected"]},
            "why": {"type": "string", "description": "What turned the state last."},
            "since_ms": {"type": "integer", "description": "When, in milliseconds of the epoch."},
            "until_ms": {"type": ["integer", "null"], "description": "When an ejection ends by itself."},
            "successes": {"type": "integer", "description": "In a row, as the three others."},
            "tcp_failures": _WHOLE,
            "timeouts": _WHOLE,
            "http_failures": _WHOLE,
            "probed_ms": {"type": ["integer", "null"], "description": "When it was last probed; null: never."},
            "evidence": {"type": "string", "description": "What the last probe, or the request that turned the state, found."},
        },
        ("state", "why", "since_ms"),
    ),
}
_HEALTH_OF_ADDRESS: Final = _object(
    {
        "ip": _TEXT,
        "port": _WHOLE,
        "weight": _WHOLE,
        "health": {"enum": ["HEALTHCHECKS_OFF", "HEALTHY", "UNHEALTHY"]},
        "pylae": _EVIDENCE,
    },
    ("ip", "port", "weight", "health"),
)
_HEALTH_OF_HOST: Final = _object(
    {
        "host": _TEXT,
        "port": _WHOLE,
        "dns": {"type": "string", "description": "`A`, `AAAA`, `SRV`, `ttl=0, virtual SRV`, or why there is no address."},
        "nodeWeight": _WHOLE,
        "weight": _WEIGHT,
        "addresses": {"type": "array", "items": _HEALTH_OF_ADDRESS},
        "pylae": {
            "description": "Not in Kong, of names: from whom the answer is; of workers also how old it is.",
            **_object(
                {
                    "known_by": {
                        "enum": ["workers", "control"],
                        "description": "`control`: no worker has reported the name, and it was asked for here and now.",
                    },
                    **{name: schema for name, schema in _ANSWER.items() if name != "records"},
                },
                ("known_by",),
            ),
        },
    },
    ("host", "port", "dns", "nodeWeight", "weight", "addresses"),
)
_HEALTH_OF_TARGET: Final = _object(
    {
        "health": {"enum": ["HEALTHCHECKS_OFF", "HEALTHY", "UNHEALTHY", "DNS_ERROR"]},
        "data": _HEALTH_OF_HOST,
    },
    ("health", "data"),
    open_=True,
)
_VALIDATED: Final = ("It would be stored.", _says("schema validation successful"))
_TIMEOUT: Final[Json] = {
    "name": "timeout",
    "description": "Seconds until the level is as before; 0 for never.",
    "schema": {"type": "number", "minimum": 0, "default": 60},
}


def _validation(path: str, operation_id: str, summary: str, body: Json, *more: str) -> Declared:
    return Declared("post", path, operation_id, "schemas", summary, {200: _VALIDATED}, ("BadBody", *more), body=body)


def _nothing(method: str, path: str, operation_id: str, plugin: str) -> Declared:
    answers = {404: (f"Always: the work of the plugin `{plugin}` is not part of this version.", _MESSAGE)}
    return Declared(method, path, operation_id, "plugins' own", f"Belongs to the plugin `{plugin}`.", answers)


def _unwritable(method: str, path: str, operation_id: str) -> Declared:
    return Declared(method, path, operation_id, "tags", "Is refused: tags are written on rows.", {}, ("NotAllowed",))


def _log_level(path: str, operation_id: str, whose: str) -> Declared:
    return Declared(
        "put",
        path,
        operation_id,
        "debug",
        f"Changes the log level of {whose}.",
        {
            200: ("It is changed, or was so already.", _MESSAGE),
            400: ("There is no such level, or the timeout is none.", _MESSAGE),
            405: ("Not possible without a database.", _MESSAGE),
        },
        query=(_TIMEOUT,),
    )


def _filters(which: str) -> Declared:
    filters = _object({"filters": _OBJECTS}, ("filters",))
    return Declared(
        "get",
        f"/routes/{{routes}}/filters/{which}",
        f"routes.filters.{which}",
        "filter_chains",
        "Lists filters that a Route's requests pass.",
        {200: ("The filters in their order.", filters), 400: ("There are no filters here.", _says(_NO_WASM))},
        ("NotFound",),
    )


def _target_health(path: str, operation_id: str, state: str) -> Declared:
    answers = {
        204: (f"It counts as {state} until a check says otherwise.", None),
        400: ("The Upstream has no health checks, or no balancer.", _MESSAGE),
        503: ("There is no room in the health table.", _MESSAGE),
    }
    return Declared("put", path, operation_id, "health", f"Sets a Target {state}.", answers, ("NotFound",))


DECLARED: Final[tuple[Declared, ...]] = (
    Declared(
        "get",
        "/",
        "node.get",
        "node",
        "Tells what the node is, which plugins it has and how it is configured.",
        {
            200: (
                "The node.",
                _object(
                    {
                        "tagline": _TEXT,
                        "version": {"type": "string", "description": "Of the interface."},
                        "pylae_version": _TEXT,
                        "edition": _TEXT,
                        "hostname": _TEXT,
                        "node_id": _UUID,
                        "timers": _object({"running": _WHOLE, "pending": _WHOLE}),
                        "plugins": _object(
                            {
                                "available_on_server": {
                                    "type": "object",
                                    "additionalProperties": _object(
                                        {"version": _TEXT, "priority": _WHOLE}, ("version", "priority"), open_=True
                                    ),
                                },
                                "enabled_in_cluster": _NAMES,
                                "disabled_on_server": _OBJECT,
                            },
                            ("available_on_server", "enabled_in_cluster"),
                        ),
                        "lua_version": _TEXT,
                        "configuration": {"type": "object", "description": "The settings; secrets as asterisks."},
                        "pids": _object({"master": _WHOLE, "workers": {"type": "array", "items": _WHOLE}}),
                    },
                    ("version", "edition", "hostname", "node_id", "plugins", "configuration"),
                ),
            )
        },
    ),
    Declared(
        "get",
        "/endpoints",
        "endpoints.list",
        "node",
        "Lists every path of this API.",
        {200: ("The paths.", _object({"data": _NAMES}, ("data",)))},
    ),
    Declared(
        "get",
        "/plugins/enabled",
        "plugins.enabled",
        "node",
        "Lists the plugins that may be configured.",
        {200: ("Their names.", _object({"enabled_plugins": _NAMES}, ("enabled_plugins",)))},
    ),
    Declared(
        "get",
        "/plugins/schema/{name}",
        "plugins.schema",
        "schemas",
        "Shows what a plugin can be told.",
        {200: ("The fields of its configuration.", _SCHEMA), 404: ("There is no such plugin.", _MESSAGE)},
        deprecated=True,
    ),
    Declared(
        "get",
        "/schemas/{name}",
        "schemas.get",
        "schemas",
        "Shows the fields of an entity and the rules between them.",
        {200: ("The declaration.", _SCHEMA), 404: ("There is no such entity.", _MESSAGE)},
    ),
    Declared(
        "get",
        "/schemas/plugins/{name}",
        "schemas.plugins.get",
        "schemas",
        "Shows what of a plugin's row is the plugin's own.",
        {200: ("The declaration.", _SCHEMA), 404: ("There is no such plugin.", _MESSAGE)},
    ),
    Declared(
        "get",
        "/schemas/vaults/{name}",
        "schemas.vaults.get",
        "schemas",
        "Shows what of a vault's row is the vault's own.",
        {200: ("The declaration.", _SCHEMA), 404: ("There is no such kind of vault.", _MESSAGE)},
    ),
    Declared(
        "get",
        "/schemas/filters/{name}",
        "schemas.filters.get",
        "schemas",
        "Shows what a filter can be told.",
        {200: ("The declaration.", _SCHEMA), 404: ("There is no such filter.", _MESSAGE), 400: ("No filters here.", _MESSAGE)},
    ),
    _validation("/schemas/plugins/validate", "schemas.plugins.validate", "Validates a plugin's row.", _ref("plugins.input")),
    _validation("/schemas/vaults/validate", "schemas.vaults.validate", "Validates a vault's row.", _ref("vaults.input")),
    _validation(
        "/schemas/{db_entity_name}/validate",
        "schemas.validate",
        "Validates a row of any entity; rows of other tables are not looked at.",
        _OBJECT,
        "NotFound",
    ),
    Declared(
        "get",
        "/status",
        "status.get",
        "health",
        "Tells how the node does, and which configuration each worker serves.",
        {
            200: (
                "Counts over all workers, and memory.",
                _object(
                    {
                        "database": _object({"reachable": _FLAG}, ("reachable",)),
                        "memory": _object({"lua_shared_dicts": _OBJECT, "workers_lua_vms": _OBJECTS}),
                        "server": {"type": "object", "additionalProperties": _WHOLE},
                        "configuration_hash": _TEXT,
                        "pylae": _OBJECT,
                    },
                    ("memory", "server"),
                ),
            ),
            400: ("The unit or the scale is none.", _MESSAGE),
        },
        query=(
            {"name": "unit", "description": "Of memory.", "schema": {"enum": [*"bBkKmMgG"], "default": "m"}},
            {"name": "scale", "description": "Decimals of memory.", "schema": {"type": "integer", "minimum": 0, "default": 2}},
        ),
    ),
    Declared(
        "get",
        "/status/dns",
        "status.dns",
        "health",
        "Counts answers of name servers.",
        {
            200: (
                "By name and kind, over all workers; what was answered from their caches is not counted.",
                _object(
                    {
                        "worker": _object({"id": _WHOLE, "count": _WHOLE}, ("id", "count")),
                        "stats": {
                            "type": "object",
                            "additionalProperties": _object(
                                {
                                    "query": {"type": "integer", "description": "Questions that brought something new."},
                                    "query_succ": {"type": "integer", "description": "Of these, the answered ones."},
                                    "query_fail": {"type": "integer", "description": "Of these, the others."},
                                    "stale": {"type": "integer", "description": "How often an answer became stale."},
                                },
                                ("query", "query_succ", "query_fail", "stale"),
                            ),
                        },
                    },
                    ("worker", "stats"),
                ),
            ),
            501: ("The setting `new_dns_client` is off.", _MESSAGE),
        },
    ),
    Declared(
        "get",
        "/dns",
        "dns.list",
        "health",
        "Lists the names that workers asked for, with what they know of them and how old it is. Not in Kong.",
        {200: ("A page, in the order of the names; a name that no worker reported for three minutes is left out.", _page(_NAME))},
        ("BadQuery",),
        query=(
            "size",
            "offset",
            {"name": "name", "description": "Only this name; with `*` at its end, all that begin so.", "schema": _SOME_TEXT},
        ),
    ),
    Declared(
        "get",
        "/dns/{name}",
        "dns.get",
        "health",
        "Shows what each worker knows of a name, and how old it is. Not in Kong.",
        {200: ("The newest answer, and that of each worker.", _NAME), 404: ("No worker asked for it lately.", _MESSAGE)},
    ),
    Declared(
        "get",
        "/explain",
        "explain.list",
        "diagnosis",
        "Lists requests that failed, were refused or recovered, probes, and a sample of the others. Not in Kong.",
        {200: ("A page, the newest first.", _page(_EXPLAINED))},
        ("BadQuery",),
        query=(
            "size",
            "offset",
            {"name": "kind", "description": "Only of this kind.", "schema": _KIND},
            {"name": "cause", "description": "Only with this fault.", "schema": _SOME_TEXT},
            {
                "name": "status",
                "description": "Only with this status, or of this class of them.",
                "schema": {"type": "string", "pattern": "^([1-9][0-9][0-9]|[1-9]xx)$"},
            },
            {"name": "route", "description": "Only of the Route with this id or name.", "schema": _SOME_TEXT},
            {"name": "service", "description": "Only of the Service with this id or name.", "schema": _SOME_TEXT},
            {
                "name": "since",
                "description": "Only since this time: RFC 3339, seconds of the epoch, or an age such as `15m`.",
                "schema": _SOME_TEXT,
            },
            {"name": "probe", "description": "Only the marked request with this number.", "schema": _SOME_TEXT},
        ),
    ),
    Declared(
        "get",
        "/explain/{request_id}",
        "explain.get",
        "diagnosis",
        "Explains what happened to a request, and why. Not in Kong.",
        {
            200: ("What was recorded, and the verdict.", _EXPLANATION),
            400: ("It is no request id.", _MESSAGE),
            404: ("There is no record of it: it went well, was not seen here, or is too old.", _MESSAGE),
        },
    ),
    Declared(
        "post",
        "/explain/route",
        "explain.route",
        "diagnosis",
        "Tells where a request would go that is only described, and why. Not in Kong.",
        {
            200: ("What workers would do with it.", _ROUTED),
            400: ("It is described wrongly.", _OBJECT),
            413: ("It is too large.", _MESSAGE),
            503: ("There is no configuration yet.", _MESSAGE),
        },
        body=_DESCRIBED,
    ),
    Declared(
        "post",
        "/explain/dry-run",
        "explain.dry-run",
        "diagnosis",
        "Tells which recorded requests would meet something else under another configuration; nothing of it stays. Not in Kong.",
        {
            200: ("What was found of the newest records.", _DRY_RUN),
            400: ("The configuration, or one of the changes, is refused.", _OBJECT),
            404: ("One of the changes is of a row that is not there.", _OBJECT),
            405: ("One of the changes cannot be made, or none, as there is no database.", _OBJECT),
            409: ("One of the changes makes a row like another.", _OBJECT),
            413: ("It is too large.", _MESSAGE),
            429: ("Another dry run is under way.", _MESSAGE),
            503: ("There is no configuration yet.", _MESSAGE),
        },
        query=("size",),
        body={},
        body_types=(
            "application/json",
            "application/yaml",
            "text/yaml",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ),
    ),
    *(
        Declared(
            "get",
            path,
            f"{name}.list",
            "diagnosis",
            "Lists what works and will make requests fail. Not in Kong.",
            {200: ("A page, in the order of kinds and keys.", _page(_WARNING))},
            ("BadQuery",),
            query=("size", "offset", {"name": "kind", "description": "Only of this kind.", "schema": _SOME_TEXT}),
        )
        for path, name in (("/warnings", "warnings"), ("/status/warnings", "status.warnings"))
    ),
    Declared(
        "get",
        "/timers",
        "timers.get",
        "debug",
        "Counts timers.",
        {200: ("Counts.", _object({"worker": _OBJECT, "stats": _OBJECT}))},
    ),
    Declared(
        "get",
        "/upstreams/{upstreams}/health",
        "upstreams.health",
        "health",
        "Tells which Targets of an Upstream can be used.",
        {
            200: (
                "By Target, or of the Upstream as a whole.",
                _object(
                    {
                        "data": {
                            "anyOf": [
                                {"type": "array", "items": _HEALTH_OF_TARGET},
                                _object(
                                    {
                                        "id": _UUID,
                                        "health": _TEXT,
                                        "balancer_health": {"enum": ["HEALTHY", "UNHEALTHY"]},
                                        "details": _object(
                                            {
                                                "healthy": _FLAG,
                                                "weight": _WEIGHT,
                                                "hosts": {"type": "array", "items": _HEALTH_OF_HOST},
                                            },
                                            ("healthy", "weight", "hosts"),
                                        ),
                                    },
                                    ("id", "health", "balancer_health", "details"),
                                ),
                            ]
                        },
                        "next": {"type": ["string", "null"]},
                        "offset": _TEXT,
                        "node_id": _UUID,
                    },
                    ("data", "node_id"),
                ),
            )
        },
        ("NotFound", "BadQuery"),
        query=(
            "size",
            "offset",
            {"name": "balancer_health", "description": "1 for the Upstream as a whole.", "schema": {"enum": ["0", "1"]}},
        ),
    ),
    Declared(
        "get",
        "/upstreams/{upstreams}/targets/all",
        "upstreams.targets.all",
        "targets",
        "Lists every stored Target of an Upstream.",
        {200: ("A page.", _page(_ref("targets")))},
        ("NotFound", "BadQuery"),
        query=("size", "offset"),
    ),
    *(
        _target_health(
            f"/upstreams/{{upstreams}}/targets/{{targets}}{between}/{state}", f"upstreams.targets.{name}{state}", state
        )
        for between, name in (("", ""), ("/{address}", "address."))
        for state in ("healthy", "unhealthy")
    ),
    Declared(
        "get",
        "/tags",
        "tags.list",
        "tags",
        "Lists every tag of every row.",
        {200: ("A page.", _page(_ref("tags")))},
        ("BadQuery",),
        query=("size", "offset", "tags"),
    ),
    Declared(
        "get",
        "/tags/{tags}",
        "tags.get",
        "tags",
        "Lists the rows that have a tag.",
        {200: ("A page.", _page(_ref("tags")))},
        ("BadQuery",),
        query=("size", "offset"),
    ),
    _unwritable("post", "/tags", "tags.create"),
    _unwritable("put", "/tags/{tags}", "tags.put"),
    _unwritable("patch", "/tags/{tags}", "tags.patch"),
    _unwritable("delete", "/tags/{tags}", "tags.delete"),
    Declared(
        "get",
        "/config",
        "config.get",
        "declarative configuration",
        "Shows the whole configuration.",
        {
            200: ("As YAML.", _object({"config": _TEXT}, ("config",))),
            400: ("There is a database.", _MESSAGE),
        },
    ),
    Declared(
        "post",
        "/config",
        "config.create",
        "declarative configuration",
        "Puts another configuration in the place of the whole.",
        {
            201: ("Every row by table and id.", {"type": "object", "additionalProperties": _OBJECT}),
            304: ("It is the same as before.", None),
            400: ("It is refused.", {"anyOf": [_MESSAGE, _ref("error.14")]}),
            413: ("It is too large.", _MESSAGE),
            429: ("Another one is being loaded.", _MESSAGE),
            503: ("The node is leaving.", _MESSAGE),
            504: ("It took too long.", _MESSAGE),
        },
        query=(
            {"name": "check_hash", "description": "1 answers 304 to what is the same as before.", "schema": _TEXT},
            {"name": "flatten_errors", "description": "1 lists errors by row too.", "schema": _TEXT},
        ),
        body={},
        body_types=(
            "application/json",
            "application/yaml",
            "text/yaml",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ),
    ),
    *(
        Declared(
            "get",
            f"/clustering/{name}",
            f"clustering.{name}",
            "cluster",
            "Lists the data planes.",
            {200: ("The data planes.", schema), 400: ("This is no control plane.", _MESSAGE)},
            query=query,
            deprecated=name == "status",
        )
        for name, schema, query in (
            ("data-planes", _page(_ref("clustering_data_planes")), ("size", "offset")),
            ("status", _OBJECT, ()),
        )
    ),
    Declared(
        "get",
        "/debug/node/log-level",
        "debug.node.log-level.get",
        "debug",
        "Tells the log level of this node.",
        {200: ("The level.", _MESSAGE)},
    ),
    _log_level("/debug/node/log-level/{log_level}", "debug.node.log-level.put", "this node"),
    _log_level("/debug/cluster/log-level/{log_level}", "debug.cluster.log-level.put", "every node"),
    Declared("delete", "/cache", "cache.purge", "debug", "Empties the cache.", {204: ("It is empty.", None)}),
    Declared(
        "get",
        "/cache/{key}",
        "cache.get",
        "debug",
        "Shows what is cached under a key.",
        {200: ("The value.", _OBJECT)},
        ("NotFound",),
    ),
    Declared("delete", "/cache/{key}", "cache.delete", "debug", "Drops a key from the cache.", {204: ("It is gone.", None)}),
    *map(_filters, ("all", "enabled", "disabled")),
    Declared(
        "get",
        "/metrics",
        "metrics.get",
        "plugins' own",
        "Shows counts as Prometheus reads them.",
        {200: ("The exposition.", _TEXT)},
        media_type="text/plain; charset=UTF-8",
    ),
    _nothing("post", "/acme", "acme.create", "acme"),
    _nothing("patch", "/acme", "acme.patch", "acme"),
    _nothing("get", "/acme/certificates", "acme.certificates.list", "acme"),
    _nothing("get", "/acme/certificates/{host}", "acme.certificates.get", "acme"),
    _nothing("delete", "/proxy-cache", "proxy-cache.purge", "proxy-cache"),
    _nothing("get", "/proxy-cache/{cache_key}", "proxy-cache.get", "proxy-cache"),
    _nothing("delete", "/proxy-cache/{cache_key}", "proxy-cache.delete", "proxy-cache"),
    _nothing("get", "/proxy-cache/{plugin_id}/caches/{cache_key}", "proxy-cache.caches.get", "proxy-cache"),
    _nothing("delete", "/proxy-cache/{plugin_id}/caches/{cache_key}", "proxy-cache.caches.delete", "proxy-cache"),
    Declared(
        "get",
        "/openapi.json",
        "openapi.get",
        "description",
        "Shows this document.",
        {200: ("The document.", _object({"openapi": _TEXT, "paths": _OBJECT}, ("openapi", "paths"), open_=True))},
    ),
    Declared(
        "get",
        "/docs",
        "docs.get",
        "description",
        "Shows this document as a page for people.",
        {200: ("The page.", _TEXT)},
        media_type="text/html; charset=utf-8",
    ),
)
