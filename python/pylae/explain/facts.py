# SPDX-License-Identifier: Apache-2.0
"""What did a worker see of one exchange? The record, read so leniently that nothing in it can make an explanation fail.

Whatever is absent, null, of another type or absurd reads as not known; unknown keys are ignored.
"""

from __future__ import annotations

import functools
import ipaddress
import math
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec

TEXT_LIMIT_CHARACTERS: Final = 4096
LIST_LIMIT: Final = 256
NUMBER_LIMIT: Final = 2**53


class HeaderSize(msgspec.Struct, frozen=True):
    """The largest field of a head: never its value."""

    name: str | None = None
    bytes: int | None = None


class RequestFacts(msgspec.Struct, frozen=True):
    """What the client asked."""

    line: str | None = None
    method: str | None = None
    scheme: str | None = None
    host: str | None = None
    path: str | None = None
    query: list[str] = []
    version: str | None = None
    received_bytes: int | None = None
    body_bytes: int | None = None
    head_bytes: int | None = None
    largest_header: HeaderSize = HeaderSize()
    header_limit_bytes: int | None = None
    head_limit_bytes: int | None = None
    headers: list[tuple[str, str | None]] = []
    headers_left_out: int | None = None
    query_left_out: int | None = None

    def header(self, name: str) -> str | None:
        """The kept value of a field; `None` when it did not come or was withheld."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted and value is not None), None)


class ClientTlsFacts(msgspec.Struct, frozen=True):
    """What was agreed with the client."""

    version: str | None = None
    cipher: str | None = None
    sni: str | None = None


class ClientFacts(msgspec.Struct, frozen=True):
    """Who called."""

    ip: str | None = None
    peer: str | None = None
    connection: int | None = None
    requests_on_connection: int | None = None
    is_trusted: bool | None = None
    consumer_id: str | None = None
    credential_id: str | None = None
    tls: ClientTlsFacts | None = None
    via: str | None = None
    forwarded_for_count: int | None = None
    departed_after_ms: float | None = None

    @property
    def is_told(self) -> bool:
        """Is the client's address another one than that of the connection, so that somebody between told it?"""
        if not self.is_trusted or self.ip is None or self.peer is None:
            return False
        host = self.peer.rpartition(":")[0].removeprefix("[").removesuffix("]")
        try:
            return ipaddress.ip_address(self.ip) != ipaddress.ip_address(host)
        except ValueError:
            return False


class RouteFacts(msgspec.Struct, frozen=True):
    """The Route that matched."""

    id: str | None = None
    name: str | None = None
    strip_path: bool | None = None
    protocols: list[str] = []
    path_prefix_bytes: int | None = None


class ServiceFacts(msgspec.Struct, frozen=True):
    """The Service as it was when the request came."""

    id: str | None = None
    name: str | None = None
    host: str | None = None
    port: int | None = None
    protocol: str | None = None
    path: str | None = None
    connect_timeout_ms: float | None = None
    write_timeout_ms: float | None = None
    read_timeout_ms: float | None = None
    retries: int | None = None
    tls_verify: bool | None = None


class UpstreamFacts(msgspec.Struct, frozen=True):
    """The Upstream that the Service's host names."""

    id: str | None = None
    name: str | None = None
    algorithm: str | None = None
    targets: int | None = None
    candidates: int | None = None
    healthy: int | None = None


class PluginStep(msgspec.Struct, frozen=True):
    """One phase of one plugin."""

    name: str | None = None
    id: str | None = None
    phase: str | None = None
    took_us: float | None = None
    outcome: str | None = None
    status: int | None = None
    detail: str | None = None
    waited: bool | None = None


class DnsFacts(msgspec.Struct, frozen=True):
    """Where the address came from."""

    age_ms: float | None = None
    state: str | None = None
    ttl_ms: float | None = None
    server: str | None = None


class TlsFacts(msgspec.Struct, frozen=True):
    """What the handshake with the upstream showed."""

    version: str | None = None
    alpn: str | None = None
    sni: str | None = None
    verified: bool | None = None
    subject: str | None = None
    issuer: str | None = None
    names: list[str] = []
    not_before: str | None = None
    not_after: str | None = None
    wants_certificate: bool | None = None
    alert: str | None = None


class TimerFacts(msgspec.Struct, frozen=True):
    """The timer that fired."""

    name: str | None = None
    ms: float | None = None


class AttemptFacts(msgspec.Struct, frozen=True):
    """One try at one address."""

    host: str | None = None
    address: str | None = None
    offset_ms: float | None = None
    dns: DnsFacts = DnsFacts()
    connect_ms: float | None = None
    tls_ms: float | None = None
    reused: int | None = None
    idle_ms: float | None = None
    age_ms: float | None = None
    idle_limit_ms: float | None = None
    our_idle_limit_ms: float | None = None
    again: str | None = None
    tls: TlsFacts = TlsFacts()
    sent_bytes: int | None = None
    request_bytes: int | None = None
    received_bytes: int | None = None
    sent_ms: float | None = None
    first_byte_ms: float | None = None
    head_ms: float | None = None
    status: int | None = None
    ended: str | None = None
    timer: TimerFacts = TimerFacts()
    unacknowledged_ms: float | None = None
    """When the timer fired: time since the last acknowledgement of what was sent; 0: all was acknowledged."""
    fault: str | None = None
    phrase: str | None = None
    detail: str | None = None
    first_bytes: str | None = None
    first_bytes_hex: str | None = None
    head_bytes: int | None = None
    head_limit_bytes: int | None = None
    largest_header: HeaderSize = HeaderSize()


class AnswerFacts(msgspec.Struct, frozen=True):
    """What the upstream answered, and who seems to have written it."""

    server: str | None = None
    via: str | None = None
    proxy_status: str | None = None
    content_type: str | None = None
    retry_after: str | None = None
    length: int | None = None
    written_by: str | None = None
    mark: str | None = None
    head_bytes: int | None = None
    largest_header: HeaderSize = HeaderSize()
    head_limit_bytes: int | None = None


class Milestones(msgspec.Struct, frozen=True):
    """Moments of the walk, in ms from the request's first byte."""

    queued_ms: float | None = None
    attempt_ms: float | None = None
    head_ms: float | None = None
    answer_ms: float | None = None


class Facts(msgspec.Struct, frozen=True):
    """All that is known of one exchange."""

    time: str | None = None
    request_id: str | None = None
    kind: str | None = None
    status: int | None = None
    config: str | None = None
    fault: str | None = None
    side: str | None = None
    room: str | None = None
    phrase: str | None = None
    detail: str | None = None
    may_have_acted: bool | None = None
    response_flag: str | None = None
    tyk_flag: str | None = None
    proxy_status: str | None = None
    cure: str | None = None
    between: str | None = None
    phase: str | None = None
    probe: str | None = None
    request: RequestFacts = RequestFacts()
    client: ClientFacts = ClientFacts()
    route: RouteFacts | None = None
    service: ServiceFacts | None = None
    upstream: UpstreamFacts | None = None
    plugins: list[PluginStep] = []
    plugins_left_out: int | None = None
    answered_by: str | None = None
    plugin: str | None = None
    attempts: list[AttemptFacts] = []
    attempts_left_out: int | None = None
    answer: AnswerFacts = AnswerFacts()
    milestones: Milestones = Milestones()
    sent_bytes: int | None = None
    sent_body_bytes: int | None = None
    duration_ms: float | None = None


Structure = TypeVar("Structure", bound=msgspec.Struct)
Reader = Callable[[object], Any]


def read(record: bytes | str | Mapping[str, object]) -> Facts:
    """The facts of a record, as JSON or decoded.

    Args:
        record: one line of `failures.jsonl`, or what was decoded of it; never trusted.
    """
    found = as_mapping(record)
    if "between" not in found and "hop" in found:
        # As records of the first version spelt it.
        found = {**found, "between": found["hop"]}
    return _structure(Facts, found) or Facts()


def as_mapping(record: bytes | str | Mapping[str, object]) -> Mapping[str, object]:
    """A record decoded; empty when it is no JSON object."""
    if isinstance(record, Mapping):
        return record
    try:
        found = msgspec.json.decode(record)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _structure(kind: type[Structure], value: object) -> Structure | None:
    if not isinstance(value, Mapping):
        return None
    found = {}
    for name, reader in _readers(kind):
        is_known = (read_value := reader(value.get(name))) is not None
        if is_known:
            found[name] = read_value
    return kind(**found)


@functools.cache
def _readers(kind: type[msgspec.Struct]) -> tuple[tuple[str, Reader], ...]:
    hints = get_type_hints(kind)
    return tuple((name, _reader(hints[name])) for name in kind.__struct_fields__)


def _reader(hint: Any) -> Reader:
    if isinstance(hint, UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        item = _pair if get_origin(inner) is tuple else _reader(inner)
        return functools.partial(_items, item)
    simple = _SIMPLE.get(hint)
    return functools.partial(_structure, hint) if simple is None else simple


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    if len(value) > TEXT_LIMIT_CHARACTERS:
        value = f"{value[:TEXT_LIMIT_CHARACTERS]}..."
    # A lone surrogate could not be written anywhere.
    return value.encode("utf-8", "backslashreplace").decode()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= NUMBER_LIMIT and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _items(item: Reader, value: object) -> list[Any] | None:
    if not isinstance(value, list | tuple):
        return None
    return [found for one in value[:LIST_LIMIT] if (found := item(one)) is not None]


def _pair(value: object) -> tuple[str, str | None] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    name = _text(value[0])
    return None if name is None else (name, _text(value[1]))


_SIMPLE: Final[Mapping[Any, Reader]] = {str: _text, int: _whole, float: _number, bool: _truth}
