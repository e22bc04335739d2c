# SPDX-License-Identifier: Apache-2.0
"""Which values does a request's body hold?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pylae.admin.answers import Refusal, message, page
from pylae.control import redaction
from pylae.sdk.bodies import parse_multipart

MAX_ARGUMENTS: Final = 1000
MAX_DEPTH: Final = 64

_decode_json = msgspec.json.Decoder().decode
_POSITION: Final = re.compile(r"[0-9]{1,6}\Z")
_SEGMENT: Final = re.compile(r"([^\[\].]+)|\[([^\[\]]*)\]|\.")


async def read_values(request: Request, max_bytes: int) -> tuple[dict[str, Any], bool]:
    """The values of a body, nested, and whether they are a form's and so all text.

    Raises:
        Refusal: 400, 413 or 415.
    """
    values, is_form = await _read_values(request, max_bytes)
    redaction.note_values(values)
    return values, is_form


async def _read_values(request: Request, max_bytes: int) -> tuple[dict[str, Any], bool]:
    types = request.headers.getlist("content-type")
    if len(types) > 1:
        raise Refusal(Response("Multiple Content-Type headers not allowed", 400, media_type="text/plain"))
    body = await read_body(request, max_bytes)
    if not body:
        return {}, False
    content_type = types[0] if types else ""
    kind = content_type.lower()
    if kind.startswith("application/json"):
        return _json_values(body), False
    if kind.startswith("application/x-www-form-urlencoded"):
        return nest(_form_arguments(body)), True
    if kind.startswith("multipart/form-data"):
        return nest(_multipart_arguments(body, content_type)), True
    raise Refusal(page(415))


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        Refusal: 413.
    """
    too_large = Refusal(message(413, f"Request body is larger than {max_bytes} bytes"))
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    pieces, length = [], 0
    try:
        async for piece in request.stream():
            length += len(piece)
            if length > max_bytes:
                raise too_large
            pieces.append(piece)
    except ClientDisconnect as error:
        raise Refusal(message(400, "Client closed the connection")) from error
    return b"".join(pieces)


def _json_values(body: bytes) -> dict[str, Any]:
    try:
        values = _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(message(400, "Cannot parse JSON body")) from error
    if not isinstance(values, dict):
        raise Refusal(message(400, "Cannot parse JSON body"))
    if not _is_shallow(values):
        raise Refusal(message(400, f"JSON body is nested deeper than {MAX_DEPTH} levels"))
    return values


def _is_shallow(values: Any) -> bool:
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return True
    return False


def _form_arguments(body: bytes) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    try:
        text = body.decode()
        arguments = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_ARGUMENTS, errors="strict")
    except UnicodeDecodeError as error:
        raise Refusal(message(400, "Cannot parse form body: expected UTF-8")) from error
    except ValueError as error:
        raise Refusal(message(400, "Too many arguments")) from error
    return arguments


def _multipart_arguments(body: bytes, content_type: str) -> list[tuple[str, str]]:
    form = parse_multipart(body, content_type)
    if form is None:
        raise Refusal(message(400, "Cannot parse multipart body"))
    if len(form.parts) > MAX_ARGUMENTS:
        raise Refusal(message(400, "Too many arguments"))
    try:
        return [
            (part.name.encode("utf-8", "surrogateescape").decode(), part.content.decode()) for part in form.parts if part.name
        ]
    except UnicodeDecodeError as error:
        raise Refusal(message(400, "Cannot parse multipart body: expected UTF-8")) from error


def nest(arguments: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Arguments whose names are paths, as the values that they describe.

    >>> nest([("paths[]", "/a"), ("paths[]", "/b"), ("config.minute", "5"), ("headers[x-a]", "1"), ("tags", "t")])
    {'paths': ['/a', '/b'], 'config': {'minute': '5'}, 'headers': {'x-a': '1'}, 'tags': 't'}
    >>> nest([("methods", "GET"), ("methods", "POST"), ("m[2].name", "b"), ("m[1].name", "a")])
    {'methods': ['GET', 'POST'], 'm': [{'name': 'a'}, {'name': 'b'}]}
    """
    root: dict[Any, Any] = {}
    for name, value in arguments:
        _put(root, _segments(name), value)
    nested: dict[str, Any] = {str(key): _listed(value) for key, value in root.items()}
    return nested


def _segments(name: str) -> list[str | int]:
    segments: list[str | int] = []
    end = 0
    for match in _SEGMENT.finditer(name):
        if match.start() != end:
            return [name]
        end = match.end()
        plain, bracketed = match[1], match[2]
        if plain is not None:
            segments.append(plain)
        elif bracketed is not None:
            # `[]` appends: 0 stands for the place after the last.
            is_position = not bracketed or _POSITION.match(bracketed) is not None
            segments.append(int(bracketed or "0") if is_position else bracketed)
    if end != len(name) or not segments or not isinstance(segments[0], str) or len(segments) > MAX_DEPTH:
        return [name]
    return segments


def _put(values: dict[Any, Any], segments: list[str | int], value: str) -> None:
    *parents, last = segments
    for segment in parents:
        key = _place(values, segment)
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    key = _place(values, last)
    present = values.get(key)
    if present is None:
        values[key] = value
    elif isinstance(present, list):
        present.append(value)
    elif isinstance(present, dict):
        present[_place(present, 0)] = value
    else:
        values[key] = [present, value]


def _place(values: dict[Any, Any], segment: str | int) -> str | int:
    if segment == 0:
        return max((key for key in values if isinstance(key, int)), default=0) + 1
    return segment


def _listed(value: Any) -> Any:
    """Tables with positions for keys as lists, as Lua has them."""
    if isinstance(value, list):
        return [_listed(item) for item in value]
    if not isinstance(value, dict):
        return value
    if all(isinstance(key, int) for key in value):
        return [_listed(value[key]) for key in sorted(value)]
    return {str(key): _listed(inner) for key, inner in value.items()}
