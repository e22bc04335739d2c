# SPDX-License-Identifier: Apache-2.0
"""How does the router see a request of which there is only a record?

A record withholds values, and what is too long is cut off. What it does not say is not made up: it is left open, so that
nothing that rests on it is told for certain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote_from_bytes

CUT: Final = "..."
"""At the end of what was too long."""
SHORTEST_CUT: Final = {"path": 128, "host": 64, "name": 64, "value": 256}
"""How long a text is at least before something is cut off, by what it is."""
SAMPLE_ARGUMENTS: Final = 4
"""A record of a request that went well names no more."""
HIDDEN_NAME: Final = "***"
CHANGED_FIELDS: Final = frozenset({"referer", "x-forwarded-uri", "x-forwarded-path", "x-forwarded-prefix"})
"""Fields whose values are recorded without their query."""
_ESCAPED: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")


class Undescribed(Exception):
    """A record does not say enough to ask the router."""


def of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded request, as `Configuration.explain` takes it.

    Raises:
        Undescribed: not even method, host and path are there.
    """
    try:
        return _described(record)
    except (AttributeError, TypeError, ValueError) as error:
        # Whoever wrote it is not believed, not even its shape.
        raise Undescribed("the record is not what a worker writes") from error


def _described(record: Mapping[str, Any]) -> dict[str, Any]:
    request, client = _mapping(record.get("request")), _mapping(record.get("client"))
    method, scheme, host, path = (request.get(name) for name in ("method", "scheme", "host", "path"))
    if not isinstance(method, str) or not isinstance(path, str) or scheme not in ("http", "https") or not isinstance(host, str):
        raise Undescribed("the record does not hold method, scheme, host and path")
    if _is_cut(path, "path") or _is_cut(host, "host"):
        raise Undescribed("the record holds the host or the path in part only")
    described: dict[str, Any] = {
        "method": method,
        "scheme": scheme,
        "host": _unescaped(host),
        # Escapes of a path mean what they stand for.
        "path": _percent_encoded(path),
        "is_trusted": client.get("is_trusted") is True,
        **_headers(request),
        **_arguments(request, is_sample=record.get("kind") == "sample"),
    }
    for name, found in (("client_ip", client.get("ip")), ("consumer_id", client.get("consumer_id"))):
        if isinstance(found, str):
            described[name] = found
    if client.get("is_trusted") is False and isinstance(client.get("peer"), str):
        port = client["peer"].rpartition(":")[2]
        if port.isascii() and port.isdigit():
            described["client_port"] = int(port)
    tls = client.get("tls")
    if isinstance(tls, Mapping) and "sni" in tls and not (isinstance(tls["sni"], str) and tls["sni"].endswith(CUT)):
        described["sni"] = tls["sni"]
    return described


def _headers(request: Mapping[str, Any]) -> dict[str, Any]:
    given = request.get("headers")
    if not isinstance(given, Sequence):
        return {"headers": [], "has_more_headers": True}
    has_more = bool(request.get("headers_left_out"))
    headers: list[tuple[str, str | None]] = []
    for name, value in given:
        if _is_cut(name, "name"):
            has_more = True
        elif value is None or _is_cut(value, "value") or name.lower() in CHANGED_FIELDS:
            headers.append((_unescaped(name), None))
        else:
            headers.append((_unescaped(name), _text(value)))
    return {"headers": headers, "has_more_headers": has_more}


def _arguments(request: Mapping[str, Any], *, is_sample: bool) -> dict[str, Any]:
    given = request.get("query")
    if not isinstance(given, Sequence):
        # A sample that had no room for names has none for a path either.
        return {}
    names = [name for name in given if name != HIDDEN_NAME and not _is_cut(name, "name")]
    has_more = len(names) < len(given) or bool(request.get("query_left_out")) or (is_sample and len(given) >= SAMPLE_ARGUMENTS)
    return {"query": "", "hidden_query": [_percent_encoded(name) for name in names], "has_more_arguments": has_more}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_cut(text: str, what: str) -> bool:
    return text.endswith(CUT) and len(text) >= SHORTEST_CUT[what]


def _bytes(text: str) -> bytes:
    r"""What stood there before it was escaped.

    >>> _bytes(r"caf\xC3\xA9")
    b'caf\xc3\xa9'
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1", "replace")


def _text(text: str) -> str | None:
    """The same as text; None for what is none."""
    try:
        return _bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _unescaped(text: str) -> str:
    found = _text(text)
    if found is None:
        raise Undescribed("the record holds a host or a name that is no text")
    return found


def _percent_encoded(text: str) -> str:
    r"""What was escaped, as a path or a query has it.

    >>> _percent_encoded(r"/a%2Fb/caf\xC3\xA9")
    '/a%2Fb/caf%C3%A9'
    """
    return quote_from_bytes(_bytes(text), safe="".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\'))
