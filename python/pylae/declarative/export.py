# SPDX-License-Identifier: Apache-2.0
"""How are the rows of a database written as one text?

Written line by line, not by a YAML library, which takes four times as long: 50,000 Routes are a million scalars.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from pylae.database.changes import Row
from pylae.database.dao import Catalogue
from pylae.declarative.document import CURRENT_FORMAT, kinds_of
from pylae.declarative.text import plain_scalar

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/.](?:[A-Za-z0-9_/.+~@%*$()^\\=;-]|:(?=[^ ]))*\Z")
"""Texts that need no quotes, if they do not look like another type: nothing that means something to YAML."""
_MAX_KEY_CHARACTERS: Final = 1000
"""A longer key is marked as one: YAML looks no more than 1,024 characters ahead for the colon."""
_UNSAFE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
"""What a double-quoted text may not hold, and JSON's writer leaves as it is."""

_encode_json = msgspec.json.Encoder().encode


class Source(Protocol):
    """Whose rows are written: any look at a database."""

    def each(self, table: str) -> Iterator[Row]:
        """Every row of a table."""
        ...


def dump(source: Source, catalogue: Catalogue) -> str:
    """A whole database as YAML, in the newest format, values as they are stored."""
    return "".join(pieces(source, catalogue))


def pieces(source: Source, catalogue: Catalogue) -> Iterator[str]:
    """The text, table by table and row by row."""
    yield f"_format_version: '{CURRENT_FORMAT}'\n_transform: false\n"
    for name, kind in kinds_of(catalogue).items():
        is_first = True
        for row in source.each(name):
            if is_first:
                yield f"{name}:\n"
                is_first = False
            yield _row(row, kind.foreign)


def _row(row: Row, foreign: Mapping[str, str]) -> str:
    lines: list[str] = []
    for field, value in row.items():
        if field in foreign and value is not None:
            value = value["id"]
        _pair(lines, "  ", field, value)
    lines[0] = "-" + lines[0][1:]
    return "".join(lines)


def _pair(lines: list[str], indent: str, key: str, value: Any) -> None:
    name = scalar(key)
    if len(name) > _MAX_KEY_CHARACTERS:
        name = f"? {name}\n{indent}"
    if value and type(value) is dict:
        lines.append(f"{indent}{name}:\n")
        for inner_key, inner in value.items():
            _pair(lines, indent + "  ", inner_key, inner)
    elif value and type(value) is list:
        lines.append(f"{indent}{name}:\n")
        _items(lines, indent, value)
    else:
        lines.append(f"{indent}{name}: {scalar(value)}\n")


def _items(lines: list[str], indent: str, items: list[Any]) -> None:
    for item in items:
        if item and isinstance(item, (dict, list)):
            at = len(lines)
            if isinstance(item, dict):
                for key, value in item.items():
                    _pair(lines, indent + "  ", key, value)
            else:
                _items(lines, indent + "  ", item)
            lines[at] = f"{indent}-{lines[at][len(indent) + 1 :]}"
        else:
            lines.append(f"{indent}- {scalar(item)}\n")


def scalar(value: Any) -> str:
    r"""One value on one line.

    >>> [scalar(value) for value in (None, True, 3, "a", "3.0", "yes", "a b", "é\n", [], "http://a", "a:")]
    ['~', 'true', '3', 'a', "'3.0'", "'yes'", "'a b'", '"é\\n"', '[]', 'http://a', "'a:'"]
    """
    kind = type(value)
    if kind is str:
        return _text(value)
    if value is None:
        return "~"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is float:
        return _float(value)
    return "{}" if kind is dict else "[]"


def _text(text: str) -> str:
    is_read_as_text = plain_scalar(text) is text
    if _PLAIN.match(text) and is_read_as_text and text[-1] != ":":
        return text
    if text.isascii() and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    quoted: str = _encode_json(text).decode()
    return _UNSAFE.sub(_escaped, quoted)


def _float(value: float) -> str:
    text = repr(value)
    # YAML 1.1 reads an exponent only after a point.
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
