# SPDX-License-Identifier: Apache-2.0
"""request-transformer: what should the upstream see instead of what the client sent?

For an upstream that cannot be changed. Works on the path, the method, headers, the body (JSON, urlencoded or
multipart form, top-level names only) and the query, in this order; within each: remove, rename, replace, add,
append.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pylae.plugins.request_transformer import config as declared
from pylae.sdk import Exchange, Instance, Plugin, SchemaViolation, bodies
from pylae.sdk.exchange import QueryValue, ServiceRequest

Pair = tuple[str, str]

MAX_BODY_BYTES: Final = 8_388_608
METHODS_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "TRACE"})
TEMPLATE_REFUSAL: Final = "templates `$(...)` are not available yet"


def _pairs(entries: Iterable[str]) -> tuple[Pair, ...]:
    """Splits `name:value` entries at the first colon."""
    pairs = []
    for entry in entries:
        name, _, value = entry.partition(":")
        pairs.append((name, value))
    return tuple(pairs)


class Rules:
    """What to do with one kind of names and values."""

    __slots__ = ("add", "append", "remove", "rename", "replace")

    def __init__(self, config: declared.Config, kind: str) -> None:
        self.remove: tuple[str, ...] = tuple(getattr(config.remove, kind))
        self.rename = _pairs(getattr(config.rename, kind))
        self.replace = _pairs(getattr(config.replace, kind))
        self.add = _pairs(getattr(config.add, kind))
        self.append = _pairs(getattr(config.append, kind))

    def __bool__(self) -> bool:
        return bool(self.remove or self.rename or self.replace or self.add or self.append)


class Prepared:
    """A configuration split into names and values."""

    __slots__ = ("body", "headers", "method", "moves_body_to_query", "query", "uri")

    def __init__(self, config: declared.Config) -> None:
        self.uri: str | None = config.replace.uri
        self.method: str | None = config.http_method
        self.moves_body_to_query = self.method in METHODS_WITHOUT_BODY
        self.headers = Rules(config, "headers")
        self.body = Rules(config, "body")
        self.query = Rules(config, "querystring")


class RequestTransformer(Plugin):
    """Changes requests on their way upstream."""

    name = "request-transformer"
    version = "3.10.0"
    priority = 801
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    reads_body = MAX_BODY_BYTES
    is_pure = True
    Config = declared.Config

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Refuses templates, which are not built yet."""
        refused: dict[str, Any] = {}
        for action in ("rename", "replace", "add", "append"):
            rules = config.get(action) or {}
            for kind, value in rules.items():
                if isinstance(value, str) and "$(" in value:
                    refused.setdefault(action, {})[kind] = TEMPLATE_REFUSAL
                elif isinstance(value, list) and any("$(" in entry for entry in value):
                    refused.setdefault(action, {})[kind] = [TEMPLATE_REFUSAL if "$(" in entry else None for entry in value]
        if refused:
            raise SchemaViolation({"config": refused})

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Splits entries once."""
        return Prepared(config)

    @classmethod
    def body_limit(cls, config: Prepared) -> int:
        """Bodies are read only where one is changed or moved."""
        return MAX_BODY_BYTES if config.body or config.moves_body_to_query else 0

    def access(self, exchange: Exchange, config: Prepared) -> None:
        """Changes what goes upstream."""
        upstream = exchange.service.request
        if config.uri is not None:
            _replace_uri(upstream, config.uri)
        if config.method is not None:
            upstream.set_method(config.method)
            if config.moves_body_to_query:
                _move_body_to_query(upstream)
        if config.headers:
            _transform_headers(upstream, config.headers)
        if config.body:
            _transform_body(exchange, upstream, config.body)
        if config.query:
            arguments = bodies.parse_query(upstream.raw_query)
            if _transform_fields(arguments, config.query):
                upstream.set_raw_query(bodies.encode_query(arguments))


def _replace_uri(upstream: ServiceRequest, uri: str) -> None:
    path, _, query = uri.partition("?")
    upstream.set_path(path if path.startswith("/") else f"/{path}")
    if query:
        upstream.set_raw_query(f"{query}&{upstream.raw_query}" if upstream.raw_query else query)


def _move_body_to_query(upstream: ServiceRequest) -> None:
    if bodies.media_type(upstream.get_header("content-type")) != bodies.FORM or not upstream.body:
        return
    arguments = bodies.parse_query(upstream.raw_query)
    for name, values in bodies.parse_form(upstream.body).items():
        for value in values if isinstance(values, list) else [values]:
            bodies.add_argument(arguments, name, value)
    upstream.set_raw_query(bodies.encode_query(arguments))
    upstream.set_body(b"")


def _transform_headers(upstream: ServiceRequest, rules: Rules) -> None:
    for name in rules.remove:
        upstream.clear_header(name)
    for old, new in rules.rename:
        value = upstream.get_headers().get(old.lower())
        if value is not None:
            upstream.clear_header(old)
            upstream.set_header(new, value)
    for name, text in rules.replace:
        if name.lower() == "host" or upstream.get_header(name) is not None:
            upstream.set_header(name.lower(), text)
    for name, text in rules.add:
        if name.lower() != "host" and upstream.get_header(name) is None:
            upstream.set_header(name, text)
    for name, text in rules.append:
        if name.lower() != "host":
            upstream.add_header(name, text)


def _transform_body(exchange: Exchange, upstream: ServiceRequest, rules: Rules) -> None:
    content_type = upstream.get_header("content-type") or ""
    kind = bodies.media_type(content_type)
    if kind not in (bodies.FORM, bodies.JSON, bodies.MULTIPART):
        return
    body = upstream.body
    if body is None:
        exchange.log("warn", f"request body is larger than {MAX_BODY_BYTES} bytes and goes upstream unchanged")
        return
    if kind == bodies.FORM:
        fields = bodies.parse_form(body)
        if _transform_fields(fields, rules):
            upstream.set_body(bodies.encode_form(fields))
    elif kind == bodies.JSON:
        document = bodies.parse_json_object(body) if body else {}
        if document is not None and _transform_fields(document, rules):
            upstream.set_body(bodies.encode_json(document))
    else:
        form = bodies.parse_multipart(body, content_type)
        if form is not None and _transform_parts(form, rules):
            upstream.set_body(form.encode())


def _transform_fields(fields: dict[str, QueryValue] | dict[str, Any], rules: Rules) -> bool:
    """Applies rules to decoded names and values; says whether anything changed."""
    is_changed = False
    for name in rules.remove:
        if name in fields:
            del fields[name]
            is_changed = True
    for old, new in rules.rename:
        if old in fields:
            fields[new] = fields.pop(old)
            is_changed = True
    for name, value in rules.replace:
        if name in fields:
            fields[name] = value
            is_changed = True
    for name, value in rules.add:
        if name not in fields:
            fields[name] = value
            is_changed = True
    for name, value in rules.append:
        present = fields.get(name)
        if present is None:
            fields[name] = [value]
        elif isinstance(present, list):
            present.append(value)
        else:
            fields[name] = [present, value]
        is_changed = True
    return is_changed


def _transform_parts(form: bodies.Multipart, rules: Rules) -> bool:
    """Applies rules to a multipart form, where appending has no meaning."""
    is_changed = False
    for name in rules.remove:
        if form.get(name):
            form.delete(name)
            is_changed = True
    for old, new in rules.rename:
        if form.get(old):
            form.rename(old, new)
            is_changed = True
    for name, value in rules.replace:
        if form.get(name):
            form.set(name, value)
            is_changed = True
    for name, value in rules.add:
        if not form.get(name):
            form.set(name, value)
            is_changed = True
    return is_changed
