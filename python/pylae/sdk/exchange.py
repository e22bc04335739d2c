# SPDX-License-Identifier: Apache-2.0
"""What may a plugin see and change of one request and its answer?

The data plane's own objects fulfil these protocols; `pylae.sdk.testing` has a stand-in for tests. An exchange
dies after the log phase: keeping one and touching it later raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

HeaderValue = str | list[str]
"""One field value, or all values of a repeated field in order."""

QueryValue = str | Literal[True] | list[str | Literal[True]]
"""A decoded argument; `True` for a name without `=`; a list for a repeated name."""

Fields = Sequence[tuple[str, HeaderValue | None]]
"""Fields to set, in order; None removes a field."""

LogLevel = Literal["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"]


class Remembering(Protocol):
    """`pylae.sdk.auth.Remembered`."""

    max_decisions: int
    native: Any


class Answer(Protocol):
    """What a plugin returns to answer in the upstream's place; made by `exchange.answer` and `exchange.error`."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...


class Request(Protocol):
    """What the client asked; it never changes."""

    @property
    def method(self) -> str:
        """Method, as sent."""
        ...

    @property
    def scheme(self) -> str:
        """`http` or `https`, of the listener."""
        ...

    @property
    def host(self) -> str:
        """Host the client named, without port."""
        ...

    @property
    def port(self) -> int:
        """Port the connection came in on."""
        ...

    @property
    def path(self) -> str:
        """Normalised path, without query."""
        ...

    @property
    def raw_path(self) -> str:
        """Path as sent, undecoded, without query."""
        ...

    @property
    def raw_query(self) -> str:
        """What follows `?`, undecoded; empty when there is none."""
        ...

    @property
    def path_with_query(self) -> str:
        """Path as sent and `?query`, if any."""
        ...

    @property
    def http_version(self) -> str:
        """`1.0`, `1.1` or `2`."""
        ...

    @property
    def body(self) -> bytes | None:
        """The whole body, undecoded; `None` unless the plugin's `reads_body` asked for it and it fitted."""
        ...

    @property
    def uri_captures(self) -> dict[str | int, str] | None:
        """What the Route's regex captured, by number and by name."""
        ...

    def get_header(self, name: str) -> str | None:
        """First value of a field, whatever the case of its name."""
        ...

    def get_header_values(self, name: str) -> list[str]:
        """Every value of a field in order; empty when it is absent."""
        ...

    def recognize(self, remembered: Remembering, name: str) -> Any:
        """What was remembered of the value of this field; None for nothing, or if the field did not come exactly once."""
        ...

    def remember(self, remembered: Remembering, name: str, decision: Any, expires_at_ms: int = 0) -> None:
        """Remembers a decision about the value of this field, until then (0: as long as there is room).

        Nothing is remembered of a field that did not come exactly once. See `pylae.sdk.auth.Remembered`.
        """
        ...

    def conceal_argument(self, name: str) -> None:
        """Keeps the value of a query argument out of every log: it is a credential. Logs show `name=***`."""
        ...

    def conceal_header(self, name: str) -> None:
        """Keeps the values of a field out of what log plugins send, which shows `REDACTED`.

        So are `Authorization` and `Proxy-Authorization`, whoever looks for credentials.
        """
        ...

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        ...

    def get_query(self) -> dict[str, QueryValue]:
        """All arguments, decoded."""
        ...

    def get_query_arg(self, name: str) -> str | Literal[True] | None:
        """First value of an argument."""
        ...


class ServiceRequest(Protocol):
    """What goes upstream: begins as the client's request after the Route's rewriting."""

    @property
    def method(self) -> str:
        """Method to send."""
        ...

    @property
    def path(self) -> str:
        """Path to send, without query."""
        ...

    @property
    def raw_query(self) -> str:
        """Query to send, undecoded; empty when there is none."""
        ...

    @property
    def body(self) -> bytes | None:
        """Body to send, as far as this plugin may read it."""
        ...

    def get_header(self, name: str) -> str | None:
        """First value of a field."""
        ...

    def get_headers(self) -> dict[str, HeaderValue]:
        """All end-to-end fields, names in lower case."""
        ...

    def get_query(self) -> dict[str, QueryValue]:
        """All arguments, decoded."""
        ...

    def set_method(self, method: str) -> None:
        """Sends this method."""
        ...

    def set_scheme(self, scheme: Literal["http", "https"]) -> None:
        """Speaks this scheme to the upstream."""
        ...

    def set_path(self, path: str) -> None:
        """Sends this path, which begins with `/`; what is not allowed in a path is percent-encoded."""
        ...

    def set_raw_query(self, query: str) -> None:
        """Sends this query as given; empty for none."""
        ...

    def set_query(self, arguments: Mapping[str, QueryValue]) -> None:
        """Sends these arguments, encoded, in the mapping's order."""
        ...

    def set_header(self, name: str, value: HeaderValue) -> None:
        """Replaces every field of that name."""
        ...

    def set_headers(self, fields: Fields) -> None:
        """Sets or, for None, removes several fields at once: cheaper than one by one."""
        ...

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        ...

    def clear_header(self, name: str) -> None:
        """Removes every field of that name."""
        ...

    def set_body(self, body: bytes) -> None:
        """Sends this body; `Content-Length` follows."""
        ...


class ServiceResponse(Protocol):
    """What the upstream answered, before any plugin touched it."""

    @property
    def status(self) -> int | None:
        """HTTP status; `None` when no upstream answered."""
        ...

    @property
    def body(self) -> bytes | None:
        """The whole body, in the response phase only."""
        ...

    def get_header(self, name: str) -> str | None:
        """First value of a field."""
        ...

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        ...


class Service(Protocol):
    """The Service that will serve the request, and both messages exchanged with it."""

    @property
    def entity(self) -> dict[str, Any] | None:
        """The Service's row."""
        ...

    @property
    def id(self) -> str | None:
        """The Service's id, without the cost of its row."""
        ...

    @property
    def request(self) -> ServiceRequest:
        """What goes upstream."""
        ...

    @property
    def response(self) -> ServiceResponse:
        """What came back."""
        ...

    def set_target(self, host: str, port: int) -> None:
        """Connects there instead of to the Service's host."""
        ...

    def set_upstream(self, name: str) -> None:
        """Balances over this Upstream instead."""
        ...


class Response(Protocol):
    """What the client will see.

    Fields set before there is an answer (in rewrite and access) are kept, and laid over whatever is then answered: by
    the upstream, a plugin or an error; `Set-Cookie` fields stand beside the answer's own. Later they are changed in the
    response and header_filter phases.
    """

    status: int
    """HTTP status; may be set until the head is sent."""

    @property
    def source(self) -> Literal["service", "exit", "error"]:
        """Who made the answer: the upstream, a plugin, or an error."""
        ...

    @property
    def body(self) -> bytes | None:
        """The whole body (response phase) or the chunk at hand (body_filter)."""
        ...

    def get_header(self, name: str) -> str | None:
        """First value of a field."""
        ...

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        ...

    def set_header(self, name: str, value: HeaderValue) -> None:
        """Replaces every field of that name."""
        ...

    def set_headers(self, fields: Fields) -> None:
        """Sets or, for None, removes several fields at once: cheaper than one by one."""
        ...

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        ...

    def clear_header(self, name: str) -> None:
        """Removes every field of that name."""
        ...

    def set_body(self, body: bytes) -> None:
        """Replaces the body, in the response phase only."""
        ...


class Identified(Protocol):
    """Who a client was found to be; see `pylae.sdk.auth.Identity`."""

    consumer: Mapping[str, Any] | None
    credential: Mapping[str, Any] | None
    headers: tuple[tuple[str, str | None], ...]
    """What the upstream is told: names that begin with `X-`, None for what must not be there."""
    imprint: object
    """None at first; then what the data plane made of the rest, which must not change from there on."""


class Client(Protocol):
    """Who called."""

    @property
    def ip(self) -> str:
        """Address at the other end of the connection."""
        ...

    @property
    def forwarded_ip(self) -> str:
        """The client's address after `trusted_ips` and `real_ip_header`."""
        ...

    @property
    def port(self) -> int:
        """Port at the other end of the connection."""
        ...

    @property
    def forwarded_port(self) -> int:
        """The client's port after `trusted_ips` and `real_ip_header`."""
        ...

    @property
    def protocol(self) -> str:
        """`http` or `https`, as the client spoke it."""
        ...

    @property
    def forwarded_protocol(self) -> str:
        """What the client spoke to a proxy before us: `X-Forwarded-Proto`, if that is in `trusted_ips`; else `protocol`."""
        ...

    @property
    def certificate_chain(self) -> list[bytes] | None:
        """The certificates the client presented in the TLS handshake, DER, its own first.

        It has the private key of the first; whether anybody vouches for it was not asked. None: it presented none, or was not
        asked for one (`Plugin.wants_client_certificate`), or the connection is not TLS.
        """
        ...

    @property
    def certificate_digest(self) -> bytes | None:
        """SHA-256 over that chain (of each its length, 32 bits big-endian, and its bytes); made once per connection."""
        ...

    def offer_authorities(self, names: list[bytes]) -> None:
        """In the certificate phase: adds names (DER) of authorities by which the client may choose its certificate."""
        ...

    @property
    def consumer(self) -> dict[str, Any] | None:
        """The authenticated Consumer's row."""
        ...

    @property
    def credential(self) -> dict[str, Any] | None:
        """The credential that authenticated the client; `None` for an anonymous Consumer."""
        ...

    def authenticate(self, consumer: Mapping[str, Any] | None, credential: Mapping[str, Any] | None) -> None:
        """Says who the client is; plugins of this Consumer apply from here on."""
        ...

    def identify(self, identity: Identified) -> None:
        """Says it to the upstream as well: its headers replace those the client sent under their names."""
        ...


class Exchange(Protocol):
    """One request, its answer and what plugins share about it."""

    @property
    def id(self) -> str:
        """Request id, 32 hex digits."""
        ...

    @property
    def request(self) -> Request:
        """What the client asked."""
        ...

    @property
    def response(self) -> Response:
        """What the client will see."""
        ...

    @property
    def client(self) -> Client:
        """Who called."""
        ...

    @property
    def service(self) -> Service:
        """Where the request goes."""
        ...

    @property
    def route(self) -> dict[str, Any] | None:
        """The matched Route's row."""
        ...

    @property
    def ctx(self) -> dict[str, Any]:
        """Shared by all plugins of this request; prefix keys with the plugin's name."""
        ...

    def answer(
        self,
        status: int,
        body: str | bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
    ) -> Answer:
        """An answer with the body as given; a dict or list becomes compact JSON."""
        ...

    def error(self, status: int, message: str | None = None, headers: Mapping[str, HeaderValue] | None = None) -> Answer:
        """An error whose body is JSON, HTML, XML or plain text as the client's Accept asks, with the request id."""
        ...

    def set_log_value(self, key: str, value: Any) -> None:
        """Puts a value under a dotted key into what log plugins send."""
        ...

    def serialize(self) -> dict[str, Any]:
        """The request as log plugins send it; log phase only."""
        ...

    def log(self, level: LogLevel, message: str) -> None:
        """Writes one line to `error.log`, with the request's id."""
        ...
