# SPDX-License-Identifier: Apache-2.0
"""How does Kong print a value inside an error text?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_KEYWORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "and break do else elseif end false for function goto if in local nil not or repeat return then true until while",
    )
)


def lua_number(value: float) -> str:
    """A number as Lua's `tostring` writes it: `5`, `0.5`, `1e+20`."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**14 else f"{float(value):.14g}"
    return f"{value:.14g}"


def lua_value(value: Any) -> str:
    """A scalar as it stands in a key: strings quoted."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return lua_number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}={lua_value(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "{" + ",".join(lua_value(item) for item in value) + "}"
    return _quoted(str(value))


def lua_tostring(value: Any) -> str:
    """A scalar as Lua's `tostring` writes it: strings bare."""
    return value if isinstance(value, str) else lua_value(value)


def lua_table(value: Any, indent: str = "") -> str:
    """A table literal over several lines, keys sorted, as Penlight writes it."""
    if not isinstance(value, (Mapping, list, tuple)):
        return lua_value(value)
    inner = indent + "  "
    entries: list[str] = []
    rest: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        rest = sorted(value.items(), key=lambda item: str(item[0]))
    else:
        leading = True
        for position, item in enumerate(value, 1):
            if item is None:
                leading = False
            elif leading:
                entries.append(inner + lua_table(item, inner))
            else:
                rest.append((position, item))
    entries += [f"{inner}{_key(key)} = {lua_table(item, inner)}" for key, item in rest]
    if not entries:
        return "{\n" + indent + "}"
    return "{\n" + ",\n".join(entries) + "\n" + indent + "}"


def lua_line(value: Any) -> str:
    """A table literal on one line, keys sorted, as Penlight writes it.

    >>> lua_line({"services": [None, {"host": "required field missing"}], "a-b": {}})
    '{["a-b"]={},services={[2]={host="required field missing"}}}'
    """
    if not isinstance(value, (Mapping, list, tuple)):
        return lua_value(value)
    entries: list[str] = []
    rest: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        rest = sorted(value.items(), key=lambda item: str(item[0]))
    else:
        is_leading = True
        for position, item in enumerate(value, 1):
            if item is None:
                is_leading = False
            elif is_leading:
                entries.append(lua_line(item))
            else:
                rest.append((position, item))
    entries += [f"{_key(key)}={lua_line(item)}" for key, item in rest]
    return "{" + ",".join(entries) + "}"


def quoted_list(names: Sequence[str]) -> str:
    """Field names for a text: `'a', 'b'`."""
    return ", ".join(f"'{name}'" for name in names)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key if _IDENTIFIER.match(key) and key not in _KEYWORDS else f"[{_quoted(key)}]"
    return f"[{key}]"


def _quoted(text: str) -> str:
    if "\n" in text:
        level = "="
        while f"]{level}]" in text:
            level += "="
        return f"[{level}[\n{text}]{level}]"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\0", "\\0") + '"'
