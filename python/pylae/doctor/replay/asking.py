# SPDX-License-Identifier: Apache-2.0
"""What is to be walked through which plugins? Makes an order of a record, or of a request somebody describes.

What strangers wrote into a record is taken for what it can be: a text of bounded length, a number, or nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pylae.doctor.replay.order import Applied, Asked, Identity, Order, Stub
from pylae.errors import PylaeError
from pylae.sdk.stand_in_fields import Fields

Row = Mapping[str, Any]

MOST_HEADERS: Final = 200
MOST_TEXT: Final = 65_536
"""Characters of one value; the gateway takes no longer head."""
MOST_KEPT: Final = 256
"""Bytes of a header value that a record keeps."""
ESCAPE: Final = "\\x"
"""Begins what a record has in the place of a byte that is not printable."""
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
ROUTE_FIELDS: Final = ("id", "name", "protocols", "strip_path")
SERVICE_FIELDS: Final = ("id", "name", "host", "port", "protocol", "path", "retries")


class NotKept(PylaeError):
    """A record says too little of a request for it to be walked through anything."""


def order_of_record(
    record: Row,
    rows: Sequence[Row],
    *,
    consumer: Row | None = None,
    upstream_names: Sequence[str] | None = None,
    plugin_path: Sequence[str | Path] = (),
    stub: Stub | None = None,
) -> Order:
    """A recorded request through plugins.

    Args:
        record: As the worker made it.
        rows: Of `plugins`, as the Admin API shows them: those that apply to the request, in any order.
        consumer: Row of the Consumer that the record names; without it no more than its id is known.
        upstream_names: All there are; without them any name a plugin chooses is taken to be one.
        plugin_path: Directories of plugins that are not bundled.
        stub: What the upstream is taken to answer; what was recorded of its answer, when None.

    Raises:
        NotKept: the record does not say what was asked.
    """
    request, client = _part(record, "request"), _part(record, "client")
    route, service = _part(record, "route"), _part(record, "service")
    method, path, has_query = _line_of(request)
    asked = Asked(
        method=method,
        path=path,
        query=None if has_query else "",
        headers=tuple(_kept_headers(request.get("headers"))),
        has_all_headers=isinstance(request.get("headers"), list) and len(request["headers"]) <= MOST_HEADERS,
        body=b"" if request.get("body_bytes") == 0 else None,
        body_bytes=_number(request.get("body_bytes")),
        head_bytes=_number(request.get("head_bytes")),
        ip=_text(client.get("ip")) or "192.0.2.1",
        scheme="https" if request.get("scheme") == "https" else "http",
        host=_text(request.get("host")) or "localhost",
        is_captured=True,
    )
    consumer_id = _text(client.get("consumer_id"))
    row = dict(consumer) if consumer is not None and consumer.get("id") == consumer_id else None
    known = row if row is not None else {"id": consumer_id} if consumer_id else None
    is_stripped = route.get("strip_path") is True
    return Order(
        plugins=applied_of(rows),
        asked=asked,
        stub=stub or _stub_of(record),
        identity=Identity(known, _text(client.get("credential_id")) or None, is_whole=row is not None),
        route=_named(route, ROUTE_FIELDS),
        service=_named(service, SERVICE_FIELDS),
        upstream_path=_upstream_path(path, _number(route.get("path_prefix_bytes")) if is_stripped else 0, service.get("path")),
        upstream_names=None if upstream_names is None else list(upstream_names),
        plugin_path=[str(directory) for directory in plugin_path],
        now_ms=_moment_ms(record.get("time")),
    )


def order_of_request(
    method: str,
    target: str,
    rows: Sequence[Row],
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    host: str = "localhost",
    scheme: str = "http",
    ip: str = "127.0.0.1",
    consumer: Row | None = None,
    credential_id: str | None = None,
    route: Row | None = None,
    service: Row | None = None,
    upstream_path: str | None = None,
    upstream_names: Sequence[str] | None = None,
    plugin_path: Sequence[str | Path] = (),
    stub: Stub | None = None,
) -> Order:
    """A described request through plugins: nothing of it is withheld.

    Args:
        method: Any method.
        target: Path, and `?query` if any.
        rows: Of `plugins`, as the Admin API shows them: those that apply to the request, in any order.
        headers: Fields as they would be sent.
        body: The whole body.
        host: The client would name, with or without port.
        scheme: `http` or `https`.
        ip: The client's address.
        consumer: Row of the Consumer that is taken to call; nobody when None.
        credential_id: Of the credential that it is taken to show.
        route: Row of the Route it matches.
        service: Row of the Service that Route has.
        upstream_path: Path that goes upstream if no plugin changes it; the request's own when None.
        upstream_names: All there are; without them any name a plugin chooses is taken to be one.
        plugin_path: Directories of plugins that are not bundled.
        stub: What the upstream is taken to answer.
    """
    raw_path, _, query = target.partition("?")
    path = _path(raw_path)
    sent = list(_headers([list(pair) for pair in headers]))
    if not any(name.lower() == "host" for name, _ in sent):
        sent.insert(0, ("Host", host))
    return Order(
        plugins=applied_of(rows),
        asked=Asked(method, path, query, tuple(sent), body=body, body_bytes=len(body), ip=ip, scheme=scheme, host=host),
        stub=stub or Stub(),
        identity=Identity(None if consumer is None else dict(consumer), credential_id, is_whole=consumer is not None),
        route=_named(route or {}, ROUTE_FIELDS),
        service=_named(service or {}, SERVICE_FIELDS),
        upstream_path=upstream_path or path,
        upstream_names=None if upstream_names is None else list(upstream_names),
        plugin_path=[str(directory) for directory in plugin_path],
        now_ms=time.time_ns() // 1_000_000,
    )


def applied_of(rows: Iterable[Row]) -> list[Applied]:
    """Rows of `plugins` that are enabled."""
    return [
        Applied(
            name=_text(row.get("name")),
            id=_text(row.get("id")),
            config=dict(_part(row, "config")),
            route_id=_id_of(row, "route"),
            service_id=_id_of(row, "service"),
            consumer_id=_id_of(row, "consumer"),
        )
        for row in rows
        if row.get("enabled", True) is True
    ]


def rows_that_ran(record: Row, rows: Iterable[Row]) -> list[Row]:
    """Of all rows of `plugins`, those the record names; a request that failed early met only some that apply to it."""
    ran = {_text(entry.get("id")) for entry in entries(record, "plugins")}
    return [row for row in rows if row.get("id") in ran]


def entries(record: Row, name: str) -> list[Row]:
    """The objects of a list of a record."""
    found = record.get(name)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _part(record: Row, name: str) -> Row:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return value[:MOST_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) and value < 1 << 53 else 0


def _line_of(request: Row) -> tuple[str, str, bool]:
    """Method, path, and whether there was a query, by the parts of a record or else by its request line.

    Raises:
        NotKept: neither is there.
    """
    words = _text(request.get("line")).split(" ")
    line_path, mark, _ = (words[1] if len(words) == 3 else "").partition("?")
    method = _text(request.get("method")) or (words[0] if len(words) == 3 else "")
    path = _text(request.get("path")) or line_path
    names = request.get("query")
    if _METHOD.match(method) is None or not path.startswith("/") or ESCAPE in path:
        raise NotKept("the record does not say what was asked, or not in the bytes it was asked in")
    return method, path.partition("?")[0], bool(names) if isinstance(names, list) else bool(mark) or not line_path


def _path(value: Any) -> str:
    path = _text(value).partition("?")[0]
    return path if path.startswith("/") else f"/{path}"


def _kept_headers(value: Any) -> Iterable[tuple[str, str | None]]:
    """Fields of a record. A value that was cut off or escaped is not the one that was sent, and so is not kept."""
    for name, text in _headers(value):
        is_as_sent = text is not None and len(text) < MOST_KEPT and ESCAPE not in text
        yield name, text if is_as_sent else None


def _headers(value: Any) -> Iterable[tuple[str, str | None]]:
    """Fields that may be in a message at all."""
    for pair in value[:MOST_HEADERS] if isinstance(value, list) else []:
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str):
            name = _text(pair[0])
            kept = _text(pair[1]) if isinstance(pair[1], str) else None
            try:
                Fields([(name, kept or "")])
            except ValueError:
                continue
            yield name, kept


def _named(row: Row, fields: Sequence[str]) -> dict[str, Any] | None:
    if not row:
        return None
    return {"id": "", **{name: plain for name in fields if (plain := _plain(row.get(name))) is not None}}


def _plain(value: Any) -> Any:
    """A text, a number, a truth or a list of texts; None for all else."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _number(value)
    return [_text(one) for one in value[:MOST_HEADERS]] if isinstance(value, list) else None


def _id_of(row: Row, name: str) -> str | None:
    return _text(_part(row, name).get("id")) or None


def _stub_of(record: Row) -> Stub:
    """What is known of the upstream's answer."""
    attempts = entries(record, "attempts")
    status = _number(attempts[-1].get("status")) if attempts else 0
    content_type = _text(_part(record, "answer").get("content_type"))
    if not 200 <= status <= 599:
        return Stub()
    if not content_type:
        return Stub(status)
    is_json = "json" in content_type.lower()
    headers = [pair for pair in _headers([["Content-Type", content_type]]) if pair[1] is not None]
    return Stub(status, tuple((name, value or "") for name, value in headers), b"{}" if is_json else b"")


def _upstream_path(path: str, prefix_bytes: int, service_path: Any) -> str:
    """As the Route rewrites it: the prefix off, the Service's path before it."""
    rest = path.encode("utf-8", "surrogateescape")[prefix_bytes:].decode("utf-8", "surrogateescape")
    before = _text(service_path).rstrip("/")
    return f"{before}/{rest.lstrip('/')}" if before or prefix_bytes else path


def _moment_ms(value: Any) -> int:
    try:
        return int(datetime.fromisoformat(_text(value)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return time.time_ns() // 1_000_000
