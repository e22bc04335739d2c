# SPDX-License-Identifier: Apache-2.0
"""Which fields does a body hold?

Forms (WHATWG URL, `application/x-www-form-urlencoded`), JSON (RFC 8259) and multipart forms (RFC 7578), read
into names and values and written back. A reader answers `None` for bytes that are not what their type says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote_plus, unquote_to_bytes

import msgspec

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"

QueryValue = str | Literal[True] | list[str | Literal[True]]

_decode_json = msgspec.json.Decoder().decode
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)
_PART_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', re.IGNORECASE)


def media_type(content_type: str | None) -> str:
    """The type without its parameters, in lower case; empty for none."""
    if content_type is None:
        return ""
    return content_type.partition(";")[0].strip().lower()


def _decode(text: str) -> str:
    raw = text.replace("+", " ").encode("utf-8", "surrogateescape")
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def parse_query(query: str) -> dict[str, QueryValue]:
    """Arguments of a query or form: `True` for a name without `=`, a list for a repeated name.

    >>> parse_query("a=1&b&c=%20+&a=2")
    {'a': ['1', '2'], 'b': True, 'c': '  '}
    """
    arguments: dict[str, QueryValue] = {}
    for piece in query.split("&"):
        if not piece:
            continue
        raw_name, equals, raw_value = piece.partition("=")
        name = _decode(raw_name)
        if not name:
            continue
        value: str | Literal[True] = _decode(raw_value) if equals else True
        add_argument(arguments, name, value)
    return arguments


def add_argument(arguments: dict[str, QueryValue], name: str, value: str | Literal[True]) -> None:
    """Adds one more value under a name."""
    present = arguments.get(name)
    if present is None:
        arguments[name] = value
    elif isinstance(present, list):
        present.append(value)
    else:
        arguments[name] = [present, value]


def encode_query(arguments: Mapping[str, QueryValue]) -> str:
    """The reverse of `parse_query`, in the mapping's order.

    >>> encode_query({"a": ["1", "2"], "b": True, "c": "x y&"})
    'a=1&a=2&b&c=x%20y%26'
    """
    pieces = []
    for name, values in arguments.items():
        encoded_name = _encode(name)
        for value in values if isinstance(values, list) else [values]:
            pieces.append(encoded_name if value is True else f"{encoded_name}={_encode(value)}")
    return "&".join(pieces)


def _encode(text: str) -> str:
    return quote_plus(text, errors="surrogateescape").replace("+", "%20")


def without_argument(query: str, name: str) -> str:
    """The query without one argument, the rest byte for byte.

    >>> without_argument("a=1&apikey=k&b=%2f", "apikey")
    'a=1&b=%2f'
    """
    return "&".join(piece for piece in query.split("&") if _decode(piece.partition("=")[0]) != name)


def conceal_arguments(query: str, names: Collection[str]) -> str:
    """The query with `***` in the place of each value of these arguments, the rest character for character.

    >>> conceal_arguments("a=1&api%6bey=k&b=%2f", ["apikey"])
    'a=1&api%6bey=***&b=%2f'
    """
    return "&".join(_concealed(piece, names) for piece in query.split("&"))


def _concealed(piece: str, names: Collection[str]) -> str:
    name, equals, _ = piece.partition("=")
    return f"{name}=***" if equals and _decode(name) in names else piece


def parse_form(body: bytes) -> dict[str, QueryValue]:
    """Fields of an urlencoded form."""
    return parse_query(body.decode("utf-8", "surrogateescape"))


def encode_form(fields: Mapping[str, QueryValue]) -> bytes:
    """The reverse of `parse_form`."""
    return encode_query(fields).encode("utf-8", "surrogateescape")


def parse_json_object(body: bytes) -> dict[str, Any] | None:
    """A JSON object; `None` for anything else."""
    try:
        value = _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def encode_json(value: Any) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)


@dataclass
class Part:
    """One part of a multipart form."""

    name: str | None
    head: bytes
    """Field lines of the part, without the empty line."""
    content: bytes


@dataclass
class Multipart:
    """A multipart form, parts in order."""

    boundary: bytes
    parts: list[Part] = field(default_factory=list)

    def get(self, name: str) -> list[str]:
        """Every content under a name."""
        return [part.content.decode("utf-8", "surrogateescape") for part in self.parts if part.name == name]

    def delete(self, name: str) -> None:
        """Removes every part of that name."""
        self.parts = [part for part in self.parts if part.name != name]

    def set(self, name: str, value: str) -> None:
        """Puts one plain part in the place of all parts of that name."""
        head = b'Content-Disposition: form-data; name="%b"' % _escaped(name)
        part = Part(name, head, value.encode("utf-8", "surrogateescape"))
        for index, present in enumerate(self.parts):
            if present.name == name:
                self.delete(name)
                self.parts.insert(index, part)
                return
        self.parts.append(part)

    def rename(self, old: str, new: str) -> None:
        """Gives the parts of a name another one; parts that had it already give way."""
        if old == new:
            return
        self.delete(new)
        parameter = b'; name="%b"' % _escaped(new)
        for part in self.parts:
            if part.name == old:
                part.name = new
                part.head = _PART_NAME.sub(lambda _: parameter, part.head, count=1)

    def encode(self) -> bytes:
        """The body."""
        pieces = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (self.boundary, part.head, part.content) for part in self.parts]
        return b"".join(pieces) + b"--%b--\r\n" % self.boundary


def _escaped(name: str) -> bytes:
    return name.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8", "surrogateescape")


def parse_multipart(body: bytes, content_type: str) -> Multipart | None:
    """A multipart form; `None` when the boundary is missing or the body does not keep to it."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        return None
    boundary = (match[1] or match[2]).encode("latin-1", "replace")
    form = Multipart(boundary)
    if not body:
        return form
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        return None
    for piece in pieces[1:-1]:
        head, separator, content = piece.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            return None
        form.parts.append(Part(_name_of(head), head, content))
    return form


def _name_of(head: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        field_name, _, value = line.partition(b":")
        if field_name.strip().lower() == b"content-disposition":
            match = _PART_NAME.search(value)
            if match is None:
                return None
            name: bytes = match[1] if match[1] is not None else match[2]
            return re.sub(rb"\\(.)", rb"\1", name).decode("utf-8", "surrogateescape")
    return None
