# SPDX-License-Identifier: Apache-2.0
"""What stands in for the data plane's exchange where there is no gateway?

Objects of plain Python that keep what `pylae.sdk.exchange` promises, refuse what the data plane refuses, and live as
long. `pylae.sdk.testing` walks plugins over them.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from pylae.sdk import bodies
from pylae.sdk.exchange import HeaderValue, Identified, QueryValue
from pylae.sdk.stand_in_fields import Fields

_METHOD: Final = re.compile(r"[A-Z_-]+\Z")
_NOT_IN_QUERY: Final = re.compile(r"[\x00-\x20\x7f#]")


class ExchangeIsOver(RuntimeError):
    """The exchange was touched after its log phase."""


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
        self.started_at_ms = 0
        self.concealed: list[str] = []
        """Arguments that logs must not show."""
        self.concealed_headers = ["authorization", "proxy-authorization"]
        """Fields that log plugins do not get, in lower case."""
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

    def recognize(self, remembered: Any, name: str) -> Any:
        """From a dictionary, by a hash of the value."""
        values = self.get_header_values(name)
        known = (remembered.native or {}).get(_hash_of(values))
        if known is None or (known[1] and known[1] <= self.started_at_ms):
            return None
        return known[0]

    def remember(self, remembered: Any, name: str, decision: Any, expires_at_ms: int = 0) -> None:
        """Into a dictionary; the first that came goes first."""
        values = self.get_header_values(name)
        if len(values) == 1:
            remembered.native = remembered.native or {}
            remembered.native[_hash_of(values)] = (decision, expires_at_ms)
            while len(remembered.native) > remembered.max_decisions:
                del remembered.native[next(iter(remembered.native))]

    def conceal_argument(self, name: str) -> None:
        """Notes that it was asked for."""
        self.concealed.append(name)

    def conceal_header(self, name: str) -> None:
        """Notes that it was asked for."""
        self.concealed_headers.append(name.lower())

    def get_query(self) -> dict[str, QueryValue]:
        """All arguments, decoded."""
        return bodies.parse_query(self.raw_query)

    def get_query_arg(self, name: str) -> str | Literal[True] | None:
        """First value of an argument."""
        value = self.get_query().get(name)
        return value[0] if isinstance(value, list) else value


def _hash_of(values: Sequence[str]) -> bytes | None:
    return hashlib.sha256(values[0].encode("utf-8", "surrogateescape")).digest() if len(values) == 1 else None


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
        if scheme not in ("http", "https"):
            raise ValueError("a scheme is `http` or `https`")
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
        if not 0 <= port <= 65_535:
            raise OverflowError("out of range integral type conversion attempted")
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
        """Puts the early fields in the place of the answer's own; cookies stand beside them."""
        for name, _ in self.early.lines:
            if name.lower() != "set-cookie":
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
        self.forwarded_protocol = "http"
        self.consumer: dict[str, Any] | None = None
        self.credential: dict[str, Any] | None = None
        self.upstream: MemoryServiceRequest | None = None
        self.certificate_chain: list[bytes] | None = None
        self.authorities: list[bytes] = []
        """What was offered."""

    @property
    def certificate_digest(self) -> bytes | None:
        """SHA-256 over the chain."""
        if self.certificate_chain is None:
            return None
        hasher = hashlib.sha256()
        for certificate in self.certificate_chain:
            hasher.update(len(certificate).to_bytes(4, "big") + certificate)
        return hasher.digest()

    def offer_authorities(self, names: list[bytes]) -> None:
        """Keeps what is offered."""
        self.authorities.extend(names)

    def authenticate(self, consumer: Mapping[str, Any] | None, credential: Mapping[str, Any] | None) -> None:
        """Says who the client is."""
        self.consumer = dict(consumer) if consumer is not None else None
        self.credential = dict(credential) if credential is not None else None

    def identify(self, identity: Identified) -> None:
        """Says it to the upstream as well."""
        self.authenticate(identity.consumer, identity.credential)
        assert self.upstream is not None, "a client stands in an exchange"
        self.upstream.set_headers(identity.headers)


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
        client.upstream = service.request
        self.service = service
        self.response = MemoryResponse()
        self.route = route
        self.ctx: dict[str, Any] = {}
        self.lines: list[tuple[str, str]] = []
        self._log_values: dict[str, Any] = {}
        self._started_at_ms = started_at_ms
        request.started_at_ms = started_at_ms

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
        for name in request.concealed_headers:
            if name in headers:
                headers[name] = "REDACTED"
        query = bodies.conceal_arguments(request.raw_query, request.concealed)
        target = f"{request.raw_path}?{query}" if "?" in request.path_with_query else request.raw_path
        entry: dict[str, Any] = {
            "request": {
                "id": self.id,
                "uri": target,
                "url": f"{request.scheme}://{request.host}:{request.port}{target}",
                "querystring": bodies.parse_query(query),
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


class Guard:
    """Stands before an exchange and everything in it; after the log phase it lets nothing through."""

    def __init__(self, target: Any, life: list[bool]) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_life", life)

    def __getattr__(self, name: str) -> Any:
        if not self._life:
            raise ExchangeIsOver(f"`{name}` was asked for after the log phase")
        value = getattr(self._target, name)
        if name in _VIEWS:
            return Guard(value, self._life)
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
