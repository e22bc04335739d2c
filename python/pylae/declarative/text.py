# SPDX-License-Identifier: Apache-2.0
"""Which values does a text hold, and at which line?

JSON is tried first, then YAML 1.1 with libyaml, read event by event: nothing recurses, what aliases stand for is
counted, and nothing but plain values can be made. Scalars are what Kong's YAML library makes of them: no dates, and
`12:30` is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from pylae.errors import PylaeError
from pylae.lua_text import lua_tostring

MAX_DEPTH: Final = 64
MAX_ALIASED_VALUES: Final = 1_000_000
"""How many values all aliases together may stand for: some files of a few lines stand for billions."""
_VALUE_BYTES: Final = 64
"""A text counts as one more value for each of these: a million times a long text is as much."""
_MAX_INTEGER: Final = 2**53

_decode_json = msgspec.json.Decoder().decode

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    spelling: value
    for word, value in {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}.items()
    for spelling in (word, word.capitalize(), word.upper())
}
_NUMBER_STARTS: Final = frozenset("+-.0123456789")
_BINARY: Final = re.compile(r"[-+]?0b_*[01][01_]*\Z")
_OCTAL: Final = re.compile(r"[-+]?0[0-7_]+\Z")
_HEXADECIMAL: Final = re.compile(r"[-+]?0x_*[0-9a-fA-F][0-9a-fA-F_]*\Z")
_DECIMAL: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_SEXAGESIMAL: Final = re.compile(r"[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z")
_NAN: Final = float("nan")
_NOT_A_NUMBER: Final = frozenset({".nan", ".NaN", ".NAN"})
_TAG: Final = "tag:yaml.org,2002:"
_MAX_DIGITS: Final = 400


class Unreadable(PylaeError):
    """The text is neither JSON nor YAML; says where, as Kong does: `line:column: problem`."""

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(problem)
        self.line = line


def read(text: bytes) -> Any:
    """The values of a text.

    Raises:
        Unreadable: it is neither JSON nor YAML, or too deep.
    """
    try:
        values = _decode_json(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_yaml(text)
    _check_depth(values)
    return values


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if type(outer) is dict or type(outer) is list
            for inner in (outer.values() if type(outer) is dict else outer)
        ]
        if not level:
            return
    raise Unreadable(f"1:1: nested deeper than {MAX_DEPTH} levels", 1)


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "count", "depth", "is_key_next", "key", "merged", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: Any = None
        self.is_key_next = True
        self.merged: list[Any] = []
        # Of everything inside, aliases at full length.
        self.count = 1
        self.depth = 1


def _read_yaml(text: bytes) -> Any:
    import yaml

    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        raise Unreadable(f"{line}:{column}: invalid UTF-8", line) from error
    # As Kong's library: the place is that of the last thing that was understood.
    line, column = 1, 1
    try:
        parser = yaml.CSafeLoader(decoded)
        builder = _Builder(yaml)
        while True:
            event: Any = parser.get_event()
            mark = event.start_mark
            line, column = mark.line + 1, mark.column + 1
            if builder.take(event):
                return builder.root
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or "not YAML"
        at = line if error.problem_mark is None else error.problem_mark.line + 1
        raise Unreadable(f"{line}:{column}: {problem}", at) from error
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", None) or "not YAML"
        raise Unreadable(f"{line}:{column}: {reason}", line) from error
    except _Refused as error:
        raise Unreadable(f"{line}:{column}: {error}", line) from error


class _Refused(PylaeError):
    """YAML that no configuration needs."""


class _Builder:
    """Makes values of libyaml's events."""

    def __init__(self, yaml: Any) -> None:
        self.root: Any = None
        self._stack: list[_Open] = []
        # Value, how many values it is, how deep.
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._aliased_count = 0
        self._takers: dict[type, Callable[[Any], bool]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._begin_mapping,
            yaml.SequenceStartEvent: self._begin_sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentEndEvent: self._finish,
            yaml.StreamEndEvent: self._finish,
        }

    def take(self, event: Any) -> bool:
        """Whether this was the end."""
        taker = self._takers.get(type(event))
        return False if taker is None else taker(event)

    def _finish(self, event: Any) -> bool:
        del event
        return True

    def _scalar(self, event: Any) -> bool:
        if event.implicit[0]:
            value = event.value
            if value in _NULLS or value in _BOOLEANS or value[0] in _NUMBER_STARTS:
                value = plain_scalar(value)
        elif event.tag is None or event.tag == "!" or event.tag == f"{_TAG}str":
            value = event.value
        else:
            value = _tagged(event.tag, event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, _count(event.value), 0
        self._put(value, _count(event.value), 0, is_plain=event.implicit[0])
        return False

    def _begin_mapping(self, event: Any) -> bool:
        return self._begin({}, event, "map")

    def _begin_sequence(self, event: Any) -> bool:
        return self._begin([], event, "seq")

    def _begin(self, value: dict[str, Any] | list[Any], event: Any, name: str) -> bool:
        if event.tag not in (None, "!", f"{_TAG}{name}"):
            raise _Refused(f"unknown tag '{event.tag}'")
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
        self._stack.append(_Open(value, event.anchor))
        return False

    def _end(self, event: Any) -> bool:
        del event
        done = self._stack.pop()
        if done.merged:
            assert isinstance(done.value, dict)
            for other in done.merged:
                for key, value in other.items():
                    done.value.setdefault(key, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = done.value, done.count, done.depth
        self._put(done.value, done.count, done.depth)
        return False

    def _alias(self, event: Any) -> bool:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise _Refused(f"unknown alias '{event.anchor}'")
        value, count, depth = found
        self._aliased_count += count
        if self._aliased_count > MAX_ALIASED_VALUES:
            raise _Refused(f"aliases stand for more than {MAX_ALIASED_VALUES} values of {_VALUE_BYTES} bytes")
        if len(self._stack) + depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
        self._put(value, count, depth)
        return False

    def _put(self, value: Any, count: int, depth: int, *, is_plain: bool = False) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        top.count += count
        if depth >= top.depth:
            top.depth = depth + 1
        collection = top.value
        if type(collection) is list:
            collection.append(value)
        elif top.is_key_next:
            top.is_key_next = False
            top.key = _MERGE if is_plain and value == "<<" else _key(value)
            if top.key in collection:
                raise _Refused(f"duplicate key '{top.key}'")
        else:
            top.is_key_next = True
            assert type(collection) is dict
            if top.key is _MERGE:
                _add_merged(top, value)
            else:
                collection[top.key] = value


def _count(text: str) -> int:
    """How many values a scalar counts as."""
    if len(text) * 4 < _VALUE_BYTES:
        return 1
    return 1 + (len(text) if text.isascii() else len(text.encode())) // _VALUE_BYTES


_MERGE: Final = object()


def _add_merged(top: _Open, value: Any) -> None:
    others = value if isinstance(value, list) else [value]
    if not all(isinstance(other, dict) for other in others):
        raise _Refused("expected a mapping or a list of mappings for merging")
    top.merged += others


def _key(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, (dict, list)):
        raise _Refused("a key must be a scalar")
    return lua_tostring(value)


def plain_scalar(text: str) -> Any:
    """What a scalar without quotes means.

    >>> [plain_scalar(text) for text in ("yes", "~", "0x1F", "017", "1_000", "1e3", "12:30", "2001-01-01", "1.2.3")]
    [True, None, 31, 15, 1000, 1000.0, 750.0, '2001-01-01', '1.2.3']
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] in _NUMBER_STARTS and len(text) <= _MAX_DIGITS:
        number = _number(text)
        if number is not None:
            return number
    return text


def _number(text: str) -> float | None:
    if _DECIMAL.match(text):
        return _sized(int(text.replace("_", "")))
    if _FLOAT.match(text):
        return _finite(float(text.replace("_", "")))
    for pattern, base in ((_OCTAL, 8), (_HEXADECIMAL, 16), (_BINARY, 2)):
        if pattern.match(text):
            digits = text.replace("_", "")
            return _sized(int(digits, base) if base != 8 else int(digits.lstrip("+-") or "0", 8) * (-1 if text[0] == "-" else 1))
    if _SEXAGESIMAL.match(text):
        total: float = 0
        for part in text.replace("_", "").lstrip("+-").split(":"):
            total = total * 60 + float(part)
        return _finite(-total if text[0] == "-" else total)
    return _NAN if text in _NOT_A_NUMBER or _INFINITE.match(text) else None


def _finite(number: float) -> float:
    # No field takes what JSON cannot say; NaN is no number to any.
    return number if math.isfinite(number) else _NAN


def _sized(number: int) -> float:
    # Lua's numbers are doubles.
    if abs(number) <= _MAX_INTEGER:
        return number
    try:
        return float(number)
    except OverflowError:
        return _NAN


def _tagged(tag: str, text: str) -> Any:
    value = plain_scalar(text)
    wanted: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,), "null": (type(None),)}
    types = wanted.get(tag.removeprefix(_TAG))
    if types is None:
        raise _Refused(f"unknown tag '{tag}'")
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        # Without the value: it may be a secret, and this text may be logged.
        raise _Refused(f"invalid value for tag '{tag}'")
    return value


def lines_of(text: bytes, paths: Iterable[tuple[str | int, ...]]) -> dict[tuple[str | int, ...], int]:
    """The lines at which values stand, or what of their paths is there; none when the text cannot be followed.

    Args:
        text: JSON or YAML; it is read once for all.
        paths: keys, and positions from 0.
    """
    import yaml

    try:
        root = yaml.compose(text.decode(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return {} if root is None else {path: _line_in(root, path, yaml) for path in paths}


def _line_in(node: Any, path: Sequence[str | int], yaml: Any) -> int:
    line: int = node.start_mark.line
    for step in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if getattr(key, "value", None) == step:
                    found, line = value, key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
            line = found.start_mark.line
        if found is None:
            break
        node = found
    return line + 1
