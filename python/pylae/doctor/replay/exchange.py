# SPDX-License-Identifier: Apache-2.0
"""What exchange are plugins shown when a request is walked through them again?

The SDK's stand-in, in which what is not kept can't be read, and what is secret is seen to be read.
"""

from __future__ import annotations

from typing import Any

from pylae.doctor.replay.order import Asked, Order
from pylae.doctor.replay.watching import Absent, KnownPart, Watch, WatchedHeaders
from pylae.sdk.exchange import HeaderValue
from pylae.sdk.stand_in_exchange import (
    MemoryClient,
    MemoryExchange,
    MemoryRequest,
    MemoryService,
    MemoryServiceRequest,
)
from pylae.sdk.stand_in_fields import Fields

PORTS = {"http": 8000, "https": 8443}
"""Of Kong's listeners; no record names the port."""


class WatchedFields(Fields):
    """Fields that know which of their values are not kept.

    Attributes:
        is_whole: whether there are no others.
    """

    def __init__(self, lines: list[tuple[str, str]], watch: Watch, *, is_whole: bool = True) -> None:
        self.watch = watch
        self.is_whole = is_whole
        super().__init__(lines)

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        if isinstance(value, Absent):
            self.lines.append((name, value))
        else:
            super().add_header(name, value)

    def get_header_values(self, name: str) -> list[str]:
        """Every value of a field."""
        values = super().get_header_values(name)
        if not values and not self.is_whole:
            self.watch.ask(f"the header `{name}`")
        self.look(name, values)
        return values

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        if not self.is_whole:
            self.watch.ask("all headers")
        return WatchedHeaders(super().get_headers(), self.look)

    def look(self, name: str, value: Any) -> Any:
        """A value is read."""
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, Absent) for one in values):
            self.watch.ask(f"the value of the header `{name}`")
        if any(one in self.watch.secrets for one in values):
            self.watch.see_secret()
        return value


class WatchedRequest(MemoryRequest):
    """What the client asked, as far as it is kept."""

    def __init__(self, asked: Asked, watch: Watch) -> None:
        self._watch = watch
        self._asked = asked
        lines = [(name, Absent() if value is None else value) for name, value in asked.headers]
        fields = WatchedFields(lines, watch, is_whole=asked.has_all_headers)
        super().__init__(asked.method, asked.path, fields, asked.body or b"")
        self.host = asked.host.partition(":")[0].lower() if not asked.host.startswith("[") else asked.host.lower()
        self.scheme = asked.scheme
        self.port = PORTS.get(asked.scheme, 8000)

    @property
    def raw_query(self) -> str:
        """What follows `?`."""
        if self._asked.query is None:
            self._watch.ask("the query")
        elif self._asked.query:
            self._watch.see_secret()
        return self._asked.query or ""

    @raw_query.setter
    def raw_query(self, query: str) -> None:
        """Nobody sets it: the order says it."""

    @property
    def path_with_query(self) -> str:
        """Path and query."""
        return f"{self.raw_path}?{self.raw_query}" if self._asked.query != "" else self.raw_path

    @path_with_query.setter
    def path_with_query(self, target: str) -> None:
        """Nobody sets it: the order says it."""

    @property
    def uri_captures(self) -> dict[str | int, str] | None:
        """What the Route's regex captured, which is not kept."""
        self._watch.ask("what the Route's regex captured")
        return None

    @uri_captures.setter
    def uri_captures(self, captures: dict[str | int, str] | None) -> None:
        """Nobody sets them."""

    @property
    def body(self) -> bytes | None:
        """The body, within the limit the plugin asked for."""
        if self._asked.body is None:
            if self.body_limit and self._asked.body_bytes <= self.body_limit:
                self._watch.ask("the body of the request")
            return None
        if self._asked.body:
            self._watch.see_secret()
        return super().body


class WatchedServiceRequest(MemoryServiceRequest, WatchedFields):
    """What goes upstream, as far as it is kept."""

    def __init__(self, request: WatchedRequest, path: str, watch: Watch) -> None:
        WatchedFields.__init__(self, list(request._fields.lines), watch, is_whole=request._asked.has_all_headers)
        self._query: str | None = request._asked.query
        self._request = request
        self._body = None
        self.method = request.method
        self.scheme = request.scheme
        self.path = path

    @property
    def raw_query(self) -> str:
        """Query to send."""
        if self._query is None:
            self.watch.ask("the query")
        elif self._query:
            self.watch.see_secret()
        return self._query or ""

    @raw_query.setter
    def raw_query(self, query: str) -> None:
        self._query = query

    @property
    def body(self) -> bytes | None:
        """Body to send."""
        return self._request.body if self._body is None else self._body

    @property
    def query_bytes(self) -> int:
        """Length of the query as far as it is known."""
        return len(self._query or "")


class WatchedClient(MemoryClient):
    """Who called.

    Attributes:
        is_known: whether it can be said who it was.
    """

    def __init__(self, ip: str, watch: Watch) -> None:
        self.is_known = True
        self._watch = watch
        self._consumer: dict[str, Any] | None = None
        self._credential: dict[str, Any] | None = None
        super().__init__(ip)

    @property
    def consumer(self) -> dict[str, Any] | None:
        """Its Consumer."""
        if not self.is_known:
            self._watch.ask("who the client was")
        return self._consumer

    @consumer.setter
    def consumer(self, row: dict[str, Any] | None) -> None:
        self._consumer = row

    @property
    def credential(self) -> dict[str, Any] | None:
        """What it showed."""
        if not self.is_known:
            self._watch.ask("who the client was")
        return self._credential

    @credential.setter
    def credential(self, row: dict[str, Any] | None) -> None:
        self._credential = row


class WatchedService(MemoryService):
    """Where the request goes, among the Upstreams there are."""

    def __init__(self, entity: dict[str, Any] | None, request: MemoryServiceRequest, upstream_names: list[str] | None) -> None:
        super().__init__(entity, request)
        self._upstream_names = upstream_names

    def set_upstream(self, name: str) -> None:
        """Balances over this Upstream."""
        if self._upstream_names is not None and name not in self._upstream_names:
            raise ValueError(f"there is no Upstream `{name}`")
        super().set_upstream(name)


def exchange_of(order: Order, watch: Watch) -> MemoryExchange:
    """The exchange of an order, as it stands before the first plugin."""
    request = WatchedRequest(order.asked, watch)
    upstream = WatchedServiceRequest(request, order.upstream_path, watch)
    if order.service is not None and order.service.get("protocol") in ("http", "https"):
        upstream.scheme = order.service["protocol"]
    service = WatchedService(order.service, upstream, order.upstream_names)
    return MemoryExchange(request, WatchedClient(order.asked.ip, watch), service, order.route, order.now_ms)


def forget(exchange: Any) -> None:
    """A plugin found out who the client was, and no record says whom."""
    exchange.client.is_known = False


def identify(order: Order, exchange: Any, watch: Watch) -> None:
    """Says who the client was, to later plugins and to the upstream, as the plugin that found out did."""
    identity = order.identity
    client: WatchedClient = exchange.client
    client.is_known = True
    if identity.consumer is None and identity.credential_id is None:
        return
    consumer = identity.consumer
    credential = None
    if consumer is not None and not identity.is_whole:
        consumer = KnownPart(consumer, "Consumer", watch)
    if identity.credential_id is not None:
        known = {"id": identity.credential_id}
        credential = KnownPart(known if consumer is None else {**known, "consumer": {"id": consumer["id"]}}, "credential", watch)
    # Not by `authenticate`, which makes plain dicts of them.
    client.consumer, client.credential = consumer, credential
    upstream: Fields = exchange.service.request
    row = identity.consumer or {}
    for name, value in (
        ("X-Consumer-ID", row.get("id")),
        ("X-Consumer-Custom-ID", row.get("custom_id") if identity.is_whole or not row else Absent()),
        ("X-Consumer-Username", row.get("username") if identity.is_whole or not row else Absent()),
        ("X-Credential-Identifier", identity.credential_id),
        ("X-Anonymous-Consumer", "true" if identity.credential_id is None else None),
    ):
        upstream.clear_header(name)
        if value is not None:
            upstream.add_header(name, value)
