# SPDX-License-Identifier: Apache-2.0
"""How is a plugin tested without a gateway?

A `Scene` holds one plugin with one configuration, a stand-in upstream and the rows of a stand-in database. It
validates the configuration as the Admin API does and walks requests through the plugin's phases in the gateway's
order, over an exchange that behaves as the data plane's does:

    with Scene(MyPlugin, {"greeting": "hello"}) as scene:
        outcome = scene.send("GET", "/orders", headers={"Accept": "text/plain"})
        assert outcome.status == 200
        assert outcome.upstream.get_header("X-Greeting") == "hello"
"""

from __future__ import annotations

import asyncio
import inspect
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from pylae.schema import Record, Schema, kinds, schema_of
from pylae.schema import field as field_
from pylae.sdk import bodies
from pylae.sdk.entities import CallFailed, Row
from pylae.sdk.exchange import HeaderValue, QueryValue
from pylae.sdk.host import Host, Limit
from pylae.sdk.plugin import Plugin

ROUTE_ID: Final = "11111111-1111-4111-8111-111111111111"
SERVICE_ID: Final = "22222222-2222-4222-8222-222222222222"
PLUGIN_ID: Final = "33333333-3333-4333-8333-333333333333"
START_MS: Final = 1_767_225_600_000
"""What a scene's clock shows at first: 2026-01-01 00:00:00 UTC."""


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_METHOD: Final = re.compile(r"[A-Z_-]+\Z")
_NOT_IN_QUERY: Final = re.compile(r"[\x00-\x20\x7f#]")


class ExchangeIsOver(RuntimeError):
    """The exchange was touched after its log phase."""


class Fields:
    """Header fields in order, looked up whatever the case of their names."""

    def __init__(self, fields: Mapping[str, HeaderValue] | Sequence[tuple[str, str]] | None = None) -> None:
        self.lines: list[tuple[str, str]] = []
        pairs = fields.items() if isinstance(fields, Mapping) else fields or ()
        for name, value in pairs:
            for one in [value] if isinstance(value, str) else value:
                self.add_header(name, one)

    def __repr__(self) -> str:
        return f"<fields {self.lines}>"

    def get_header(self, name: str) -> str | None:
        """First value of a field."""
        values = self.get_header_values(name)
        return values[0] if values else None

    def get_header_values(self, name: str) -> list[str]:
        """Every value of a field."""
        lower_name = name.lower()
        return [value for present, value in self.lines if present.lower() == lower_name]

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        headers: dict[str, HeaderValue] = {}
        for name, value in self.lines:
            present = headers.get(name.lower())
            if present is None:
                headers[name.lower()] = value
            elif isinstance(present, list):
                present.append(value)
            else:
                headers[name.lower()] = [present, value]
        return headers

    def set_header(self, name: str, value: HeaderValue) -> None:
        """Replaces every field of that name."""
        self.clear_header(name)
        for one in [value] if isinstance(value, str) else value:
            self.add_header(name, one)

    def set_headers(self, fields: Sequence[tuple[str, HeaderValue | None]]) -> None:
        """Sets or, for None, removes several fields."""
        for name, value in fields:
            if value is None:
                self.clear_header(name)
            else:
                self.set_header(name, value)

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        if _TOKEN.match(name) is None:
            raise ValueError(f"`{name}` is no header name")
        text = str(value).strip()
        if any(character in text for character in "\r\n\0"):
            raise ValueError("a header value holds CR, LF or NUL")
        self.lines.append((name, text))

    def clear_header(self, name: str) -> None:
        """Removes every field of that name."""
        lower_name = name.lower()
        self.lines = [line for line in self.lines if line[0].lower() != lower_name]


@dataclass
class MemoryAnswer:
    """What a plugin answered in the upstream's place."""

    status: int
    headers: dict[str, HeaderValue]
    body: bytes | None
    message: str | None
    source: Literal["exit", "error"]


class MemoryRequest:
    """What the client asked."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Fields,
        body: bytes,
        uri_captures: dict[str | int, str] | None = None,
    ) -> None:
        raw_path, _, raw_query = target.partition("?")
        self.method = method
        self.scheme = "http"
        self.host = (headers.get_header("host") or "localhost").partition(":")[0].lower()
        self.port = 8000
        self.raw_path = raw_path
        self.path = raw_path
        self.raw_query = raw_query
        self.path_with_query = target
        self.http_version = "1.1"
        self.uri_captures = uri_captures
        self.full_body = body
        self.body_limit = 0
        self._fields = headers
        self.get_header = headers.get_header
        self.get_header_values = headers.get_header_values
        self.get_headers = headers.get_headers

    @property
    def body(self) -> bytes | None:
        """The body, within the limit the plugin asked for."""
        if self.body_limit == 0 or len(self.full_body) > self.body_limit:
            return None
        return self.full_body

    def get_query(self) -> dict[str, QueryValue]:
        """All arguments, decoded."""
        return bodies.parse_query(self.raw_query)

    def get_query_arg(self, name: str) -> str | Literal[True] | None:
        """First value of an argument."""
        value = self.get_query().get(name)
        return value[0] if isinstance(value, list) else value


class MemoryServiceRequest(Fields):
    """What goes upstream."""

    def __init__(self, request: MemoryRequest) -> None:
        super().__init__([(name, value) for name, value in request._fields.lines])
        self.method = request.method
        self.scheme = "http"
        self.path = request.path
        self.raw_query = request.raw_query
        self._request = request
        self._body: bytes | None = None

    @property
    def body(self) -> bytes | None:
        """Body to send, within the limit the plugin asked for."""
        return self._request.body if self._body is None else self._body

    @property
    def sent_body(self) -> bytes:
        """The whole body that is sent."""
        return self._request.full_body if self._body is None else self._body

    def get_query(self) -> dict[str, QueryValue]:
        """All arguments, decoded."""
        return bodies.parse_query(self.raw_query)

    def set_method(self, method: str) -> None:
        """Sends this method."""
        if _METHOD.match(method) is None:
            raise ValueError("a method is made of capital letters")
        self.method = method

    def set_scheme(self, scheme: Literal["http", "https"]) -> None:
        """Speaks this scheme."""
        self.scheme = scheme

    def set_path(self, path: str) -> None:
        """Sends this path."""
        if not path.startswith("/"):
            raise ValueError("a path starts with `/`")
        self.path = quote(path, safe="/!$&'()*+,;=:@~-._%")

    def set_raw_query(self, query: str) -> None:
        """Sends this query."""
        if _NOT_IN_QUERY.search(query):
            raise ValueError("a raw query holds no space, control byte or `#`")
        self.raw_query = query

    def set_query(self, arguments: Mapping[str, QueryValue]) -> None:
        """Sends these arguments."""
        self.raw_query = bodies.encode_query(arguments)

    def set_body(self, body: bytes | str) -> None:
        """Sends this body."""
        self._body = body.encode() if isinstance(body, str) else bytes(body)


class MemoryServiceResponse(Fields):
    """What the upstream answered."""

    def __init__(self, status: int | None, fields: Fields, body: bytes | None) -> None:
        super().__init__(fields.lines)
        self.status = status
        self.body = body


class MemoryService:
    """Where the request goes."""

    def __init__(self, entity: dict[str, Any] | None, request: MemoryServiceRequest) -> None:
        self.entity = entity
        self.request = request
        self.response = MemoryServiceResponse(None, Fields(), None)
        self.target: tuple[str, int] | None = None
        self.upstream_name: str | None = None

    @property
    def id(self) -> str | None:
        """The Service's id."""
        return None if self.entity is None else self.entity["id"]

    def set_target(self, host: str, port: int) -> None:
        """Connects there."""
        self.target = (host, port)

    def set_upstream(self, name: str) -> None:
        """Balances over this Upstream."""
        self.upstream_name = name


class MemoryResponse(Fields):
    """What the client will see; what is set before there is an answer is laid over it."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.early = Fields()
        self.shown_status = 0
        self.source: Literal["service", "exit", "error"] = "service"
        self.body: bytes | None = None

    def _target(self) -> Fields | None:
        """Where changes go: to the early fields, or (None) to the answer's."""
        if self.phase in _EARLY_PHASES:
            return self.early
        self._check_phase(_EDITING_PHASES)
        return None

    def _check_phase(self, phases: Sequence[str]) -> None:
        if self.phase and self.phase not in phases:
            raise RuntimeError(f"the answer can't be changed in the {self.phase} phase, only in {' and '.join(phases)}")

    def lay_early(self) -> None:
        """Puts the early fields in the place of the answer's own."""
        for name, _ in self.early.lines:
            self.clear_header(name)
        self.lines.extend(self.early.lines)

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.shown_status

    @status.setter
    def status(self, status: int) -> None:
        self._check_phase(_EDITING_PHASES)
        self.shown_status = _status(status)

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        target = self._target()
        if target is None:
            super().add_header(name, value)
        else:
            target.add_header(name, value)

    def clear_header(self, name: str) -> None:
        """Removes every field of that name."""
        target = self._target()
        if target is None:
            super().clear_header(name)
        else:
            target.clear_header(name)

    def set_body(self, body: bytes | str) -> None:
        """Replaces the body."""
        self._check_phase(("response",))
        self.body = body.encode() if isinstance(body, str) else bytes(body)


_EARLY_PHASES: Final = ("rewrite", "access")
_EDITING_PHASES: Final = ("response", "header_filter")


class MemoryClient:
    """Who called."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.forwarded_ip = ip
        self.port = 50_000
        self.forwarded_port = 50_000
        self.protocol = "http"
        self.consumer: dict[str, Any] | None = None
        self.credential: dict[str, Any] | None = None

    def authenticate(self, consumer: Mapping[str, Any] | None, credential: Mapping[str, Any] | None) -> None:
        """Says who the client is."""
        self.consumer = dict(consumer) if consumer is not None else None
        self.credential = dict(credential) if credential is not None else None


class MemoryExchange:
    """One request, its answer and what plugins share about it."""

    def __init__(
        self,
        request: MemoryRequest,
        client: MemoryClient,
        service: MemoryService,
        route: dict[str, Any] | None,
        started_at_ms: int,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.request = request
        self.client = client
        self.service = service
        self.response = MemoryResponse()
        self.route = route
        self.ctx: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []
        self._log_values: dict[str, Any] = {}
        self._started_at_ms = started_at_ms

    def __repr__(self) -> str:
        return f"<exchange {self.id}>"

    def answer(
        self,
        status: int,
        body: str | bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
    ) -> MemoryAnswer:
        """An answer with the body as given."""
        fields = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = bodies.encode_json(body)
            if not any(name.lower() == "content-type" for name in fields):
                fields["Content-Type"] = "application/json; charset=utf-8"
        if isinstance(body, str):
            body = body.encode()
        return MemoryAnswer(_status(status), fields, body or b"", None, "exit")

    def error(self, status: int, message: str | None = None, headers: Mapping[str, HeaderValue] | None = None) -> MemoryAnswer:
        """An error, negotiated by Accept."""
        return MemoryAnswer(_status(status), dict(headers or {}), None, message, "error")

    def set_log_value(self, key: str, value: Any) -> None:
        """Puts a value into what log plugins send."""
        self._log_values[key] = value

    def serialize(self) -> dict[str, Any]:
        """The request as log plugins send it, without what only a real gateway knows (sizes, latencies, tries)."""
        request = self.request
        headers = request.get_headers()
        for name in ("authorization", "proxy-authorization"):
            if name in headers:
                headers[name] = "REDACTED"
        entry: dict[str, Any] = {
            "request": {
                "id": self.id,
                "uri": request.path_with_query,
                "url": f"{request.scheme}://{request.host}:{request.port}{request.path_with_query}",
                "querystring": request.get_query(),
                "method": request.method,
                "headers": headers,
                "size": len(request.full_body),
            },
            "upstream_uri": self.service.request.path,
            "upstream_status": str(self.service.response.status or ""),
            "response": {
                "status": self.response.status,
                "headers": self.response.get_headers(),
                "size": len(self.response.body or b""),
            },
            "latencies": {"kong": 0, "proxy": 0, "request": 0, "receive": 0},
            "tries": [],
            "client_ip": self.client.forwarded_ip,
            "started_at": self._started_at_ms,
            "source": "upstream" if self.response.source == "service" else "kong",
        }
        if self.client.credential is not None:
            entry["authenticated_entity"] = {"id": self.client.credential["id"]}
        for key, value in (
            ("route", self.route),
            ("service", self.service.entity),
            ("consumer", self.client.consumer),
        ):
            if value is not None:
                entry[key] = value
        for key, value in self._log_values.items():
            holder = entry
            *parents, last = key.split(".")
            for parent in parents:
                holder = holder.setdefault(parent, {})
            holder[last] = value
        return entry

    def log(self, level: str, message: str) -> None:
        """Keeps one line."""
        self.lines.append((level, message))


class _Guard:
    """Stands before an exchange and everything in it; after the log phase it lets nothing through."""

    def __init__(self, target: Any, life: list[bool]) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_life", life)

    def __getattr__(self, name: str) -> Any:
        if not self._life:
            raise ExchangeIsOver(f"`{name}` was asked for after the log phase")
        value = getattr(self._target, name)
        if name in _VIEWS:
            return _Guard(value, self._life)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._life:
            raise ExchangeIsOver(f"`{name}` was set after the log phase")
        if name != "status":
            raise AttributeError(f"`{name}` cannot be set")
        setattr(self._target, name, value)


_VIEWS: Final = frozenset({"request", "response", "client", "service"})


def _status(status: int) -> int:
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"status {status!r}, expected 100 to 599")
    return status


class MemoryHost(Host):
    """A host whose database, counters, stream and log are lists and dicts."""

    def __init__(self, clock: Clock, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        super().__init__(clock.now_ms)
        self.clock = clock
        self.rows: dict[str, list[Row]] = {table: [dict(row) for row in of_table] for table, of_table in rows.items()}
        self.streamed: list[tuple[str, bytes]] = []
        self.lines: list[tuple[str, str]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.counters: dict[tuple[bytes, int, int], int] = {}
        self.connect(_MemoryGateway(self))

    def change(self, table: str, row_id: str, **changes: Any) -> None:
        """Changes a row as an administrator would, and tells the plugin's caches."""
        for row in self.rows.get(table, []):
            if row["id"] == row_id:
                told = [(table, name, row.get(name)) for name in row]
                row.update(changes)
                self.entities.invalidate([*told, *((table, name, row[name]) for name in row)])

    def remove(self, table: str, row_id: str) -> None:
        """Deletes a row as an administrator would, and tells the plugin's caches."""
        for row in list(self.rows.get(table, [])):
            if row["id"] == row_id:
                self.rows[table].remove(row)
                self.entities.invalidate([(table, name, row[name]) for name in row])


class _MemoryGateway:
    def __init__(self, host: MemoryHost) -> None:
        self._host = host
        self.on_invalidate: Callable[[list[tuple[str, str, Any]] | None], None] | None = host.entities.invalidate

    async def call(self, operation: str, args: bytes, timeout_ms: int) -> bytes:  # noqa: ARG002 - a gateway's call
        arguments = msgspec.msgpack.decode(args)
        self._host.calls.append((operation, arguments))
        # A real call always gives others a turn.
        await asyncio.sleep(0)
        answer = getattr(self, f"_{operation}")(**{name.replace("with", "joined"): v for name, v in arguments.items()})
        return msgspec.msgpack.encode(answer)

    def _find(self, table: str, field: str, value: Any) -> Row | None:
        for row in self._host.rows.get(table, []):
            if row.get(field) == value and row.get("_expires_at_ms", self._host.now_ms() + 1) > self._host.now_ms():
                return row
        return None

    def _public(self, row: Row) -> Row:
        shown = {name: value for name, value in row.items() if name != "_expires_at_ms"}
        if "_expires_at_ms" in row:
            shown["ttl"] = (row["_expires_at_ms"] - self._host.now_ms()) / 1000
        return shown

    def _select_by(self, table: str, field: str, value: Any, joined: Sequence[str]) -> Row | None:
        row = self._find(table, field, value)
        if row is None:
            return None
        row = self._public(row)
        for name in joined:
            reference = row.get(name)
            if reference is not None:
                # By convention a foreign field `consumer` refers to the table `consumers`.
                row[name] = self._find(f"{name}s", "id", reference["id"]) or reference
        return row

    def _insert(self, table: str, row: Row, ttl: float | None = None) -> Row:
        stored = {"id": str(uuid.uuid4()), "created_at": self._host.now_ms() // 1000, **row}
        if self._find(table, "id", stored["id"]) is not None:
            raise CallFailed("unique constraint violation", f"UNIQUE violation detected on '{{id=\"{stored['id']}\"}}'")
        if ttl is not None:
            stored["_expires_at_ms"] = self._host.now_ms() + int(ttl * 1000)
        self._host.rows.setdefault(table, []).append(stored)
        self._host.entities.invalidate([(table, name, value) for name, value in stored.items()])
        return self._public(stored)

    def _delete(self, table: str, id: str) -> None:  # noqa: A002 - the message's own name
        self._host.remove(table, id)

    def _consume(self, table: str, field: str, value: Any) -> Row | None:
        row = self._find(table, field, value)
        if row is None:
            return None
        self._host.remove(table, row["id"])
        return self._public(row)

    def stream(self, channel: str, item: bytes) -> bool:
        self._host.streamed.append((channel, item))
        return True

    def counters_take(self, identifier: bytes, limits: list[Limit], cost: int) -> tuple[bool, list[int]]:
        usage = self.counters_read(identifier, limits)
        if any(used + cost > limit for used, (limit, _, _) in zip(usage, limits, strict=True)):
            return False, usage
        for used, (_, start_ms, end_ms) in zip(usage, limits, strict=True):
            self._host.counters[identifier, start_ms, end_ms] = used + cost
        return True, [used + cost for used in usage]

    def counters_read(self, identifier: bytes, limits: list[Limit]) -> list[int]:
        return [self._host.counters.get((identifier, start_ms, end_ms), 0) for _, start_ms, end_ms in limits]

    def log(self, level: str, message: str) -> None:
        self._host.lines.append((level, message))


class Clock:
    """A clock that a test turns."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._now_ms

    def turn(self, *, seconds: float) -> None:
        """Moves it forward."""
        self._now_ms += int(seconds * 1000)


@dataclass
class Upstream:
    """What the stand-in upstream answers; `chunks` are the pieces its body comes in."""

    status: int = 200
    headers: Mapping[str, HeaderValue] = field(default_factory=lambda: {"Content-Type": "text/plain"})
    body: bytes = b"hello"
    chunks: Sequence[bytes] | None = None


@dataclass
class Outcome:
    """What came of a request."""

    status: int
    headers: dict[str, HeaderValue]
    body: bytes
    source: Literal["service", "exit", "error"]
    upstream: MemoryServiceRequest | None
    """What the upstream received; `None` when the plugin answered in its place."""
    exchange: MemoryExchange
    lines: list[tuple[str, str]]
    """What was logged for the request: (level, message)."""

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Scene:
    """One plugin, one configuration, a stand-in upstream and database.

    Args:
        config: As posted to the Admin API; defaults are applied and everything is validated.
        rows: Rows the plugin finds by call, per table.
        prepare_exchange: Called with the exchange before the first phase: say who an earlier plugin authenticated.

    Raises:
        SchemaViolation: the Admin API would refuse the configuration.
    """

    def __init__(
        self,
        plugin: type[Plugin],
        config: Mapping[str, Any] | None = None,
        *,
        rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        upstream: Upstream | Callable[[MemoryServiceRequest], Upstream] | None = None,
        scope: Mapping[str, str] | None = None,
        prepare_exchange: Callable[[MemoryExchange], None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.host = MemoryHost(self.clock, rows or {})
        self.upstream = upstream or Upstream()
        self.route: dict[str, Any] | None = {"id": ROUTE_ID, "name": "route", "service": {"id": SERVICE_ID}}
        self.service: dict[str, Any] | None = {"id": SERVICE_ID, "name": "service", "host": "upstream.test"}
        full_config = validated(plugin, config or {})
        self.plugin = plugin(self.host)
        scope = scope or {}
        self.config = plugin.build_config(
            msgspec.msgpack.encode(full_config),
            PLUGIN_ID,
            scope.get("route"),
            scope.get("service"),
            scope.get("consumer"),
        )
        self._prepare_exchange = prepare_exchange
        self._runner = asyncio.Runner()
        self._runner.run(self.host.start([self.plugin]))

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops the plugin."""
        self._runner.run(self.host.stop([self.plugin]))
        self._runner.close()

    def send(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: bytes = b"",
        ip: str = "192.0.2.1",
        uri_captures: dict[str | int, str] | None = None,
    ) -> Outcome:
        """Walks one request through the plugin's phases.

        Args:
            method: Any method.
            target: Path, and `?query` if any.
            headers: Fields as sent; a list repeats the field.
            body: The whole body.
            ip: The client's address.
            uri_captures: What the Route's regex captured.
        """
        return self._runner.run(self.send_async(method, target, headers=headers, body=body, ip=ip, uri_captures=uri_captures))

    def send_together(self, requests: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Sends several requests at once; each mapping holds the arguments of `send`."""

        async def gather() -> list[Outcome]:
            return await asyncio.gather(*(self.send_async(**request) for request in requests))

        return self._runner.run(gather())

    async def send_async(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: bytes = b"",
        ip: str = "192.0.2.1",
        uri_captures: dict[str | int, str] | None = None,
    ) -> Outcome:
        """`send` for a test that runs its own loop."""
        request = MemoryRequest(method, target, Fields(headers), body, uri_captures)
        request.body_limit = self.plugin.body_limit(self.config)
        service = MemoryService(self.service, MemoryServiceRequest(request))
        exchange = MemoryExchange(request, MemoryClient(ip), service, self.route, self.clock.now_ms())
        if self._prepare_exchange is not None:
            self._prepare_exchange(exchange)
        life = [True]
        guarded = _Guard(exchange, life)
        answer = await self._run("rewrite", guarded) or await self._run("access", guarded)
        upstream = None
        chunks: Sequence[bytes]
        if answer is not None:
            chunks = [self._answered(exchange, answer)]
        else:
            upstream = service.request
            chunks = self._proxied(exchange, upstream)
            answer = await self._run("response", guarded)
            if answer is not None:
                chunks = [self._answered(exchange, answer)]
            elif exchange.response.body is not None:
                chunks = [exchange.response.body]
        exchange.response.lay_early()
        await self._run("header_filter", guarded)
        exchange.response.body = self._filtered(guarded, chunks)
        await self._run("log", guarded)
        life.clear()
        response = exchange.response
        return Outcome(
            response.status,
            response.get_headers(),
            response.body or b"",
            response.source,
            upstream,
            exchange,
            exchange.lines + self.host.lines,
        )

    async def _run(self, phase: str, exchange: Any) -> MemoryAnswer | None:
        method = getattr(self.plugin, phase, None)
        if method is None:
            return None
        response: MemoryResponse = exchange._target.response
        response.phase = phase
        verdict = method(exchange, self.config)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        # Between phases the scene itself works on the answer.
        response.phase = ""
        if verdict is not None and not isinstance(verdict, MemoryAnswer):
            raise TypeError(f"{self.plugin.name}.{phase} returned {verdict!r}, expected None or an Answer")
        if verdict is not None and phase in ("header_filter", "log"):
            raise TypeError(f"{self.plugin.name}.{phase} may not answer")
        return verdict

    def _answered(self, exchange: MemoryExchange, answer: MemoryAnswer) -> bytes:
        response = exchange.response
        response.lines = []
        response.status = answer.status
        response.source = answer.source
        body = answer.body
        if body is None:
            message = answer.message or _default_message(answer.status)
            content_type, body = _error_body(exchange.request.get_header("accept"), message, exchange.id)
            response.set_header("Content-Type", content_type)
        for name, value in answer.headers.items():
            response.set_header(name, value)
        response.set_header("Content-Length", str(len(body)))
        return body

    def _proxied(self, exchange: MemoryExchange, upstream: MemoryServiceRequest) -> Sequence[bytes]:
        answer = self.upstream(upstream) if callable(self.upstream) else self.upstream
        chunks = answer.chunks if answer.chunks is not None else [answer.body]
        body = b"".join(chunks)
        fields = Fields(answer.headers)
        if fields.get_header("content-length") is None:
            fields.add_header("Content-Length", str(len(body)))
        is_whole = hasattr(self.plugin, "response")
        exchange.service.response = MemoryServiceResponse(answer.status, fields, body if is_whole else None)
        response = exchange.response
        response.status = answer.status
        response.source = "service"
        response.lines = list(fields.lines)
        response.body = body if is_whole else None
        return chunks

    def _filtered(self, exchange: Any, chunks: Sequence[bytes]) -> bytes:
        body_filter = getattr(self.plugin, "body_filter", None)
        if body_filter is None:
            return b"".join(chunks)
        sent = bytearray()
        # The end may come with the last piece or after it, as on a real connection.
        for index, chunk in enumerate(chunks or [b""]):
            filtered = body_filter(exchange, self.config, chunk, index == max(len(chunks), 1) - 1)
            sent += chunk if filtered is None else filtered
        return bytes(sent)


def _row_schema(config: type[Record]) -> Schema:
    """The rules of a plugin row, as far as its configuration is concerned."""
    declared = field_(kinds.record(config), doc="The plugin's configuration.")
    row = type("PluginRow", (Record,), {"config": declared, "checks": config.plugin_checks})
    return schema_of(row)


def validated(plugin: type[Plugin], config: Mapping[str, Any]) -> dict[str, Any]:
    """The full configuration, as the Admin API would store it.

    Raises:
        SchemaViolation: it would answer 400.
    """
    row = _row_schema(plugin.Config).insert({"config": dict(config)})
    full_config: dict[str, Any] = row["config"]
    plugin.check_config(full_config)
    return full_config


def _default_message(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "An unexpected error occurred"


_TEMPLATES: Final = {
    "application/json": '{{\n  "message":"{message}",\n  "request_id":"{id}"\n}}',
    "text/plain": "{message}\nrequest_id: {id}\n",
    "application/xml": '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{message}</message>\n'
    "  <requestid>{id}</requestid>\n</error>\n",
    "text/html": "<!doctype html>\n<html><body><h1>Error</h1><p>{message}.</p><p>request_id: {id}</p></body></html>\n",
}


def _error_body(accept: str | None, message: str, request_id: str) -> tuple[str, bytes]:
    kind = _negotiated(accept or "")
    return f"{kind}; charset=utf-8", _TEMPLATES[kind].format(message=message, id=request_id).encode()


def _negotiated(accept: str) -> str:
    best, best_quality = "application/json", 0.0
    for entry in accept.split(","):
        kind, *parameters = (piece.strip() for piece in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _quality(value)
        if quality > best_quality:
            best, best_quality = kind.lower(), quality
    if best == "text/*":
        return "text/plain"
    return best if best in _TEMPLATES else "application/json"


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
