# SPDX-License-Identifier: Apache-2.0
"""What stands in for the header fields of a message where there is no gateway?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pylae.sdk.exchange import HeaderValue

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def checked_value(value: Any) -> str:
    """A field's value as the data plane takes it; numbers are written out.

    Raises:
        TypeError: it is neither text nor a number.
        ValueError: it would end the field early.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, str) and not is_number:
        raise TypeError(f"a header value is a `{type(value).__name__}`, expected a str")
    text = str(value).strip()
    if any(character in text for character in "\r\n\0"):
        raise ValueError("a header value holds CR, LF or NUL")
    return text


class Fields:
    """Header fields in order, looked up whatever the case of their names."""

    def __init__(self, fields: Mapping[str, HeaderValue] | Sequence[tuple[str, str]] | None = None) -> None:
        self.lines: list[tuple[str, str]] = []
        pairs = fields.items() if isinstance(fields, Mapping) else fields or ()
        for name, value in pairs:
            for one in [value] if isinstance(value, str) else value:
                self.add_header(name, one)

    def __repr__(self) -> str:
        return f"<fields {self.lines}>"

    def get_header(self, name: str) -> str | None:
        """First value of a field."""
        values = self.get_header_values(name)
        return values[0] if values else None

    def get_header_values(self, name: str) -> list[str]:
        """Every value of a field."""
        lower_name = name.lower()
        return [value for present, value in self.lines if present.lower() == lower_name]

    def get_headers(self) -> dict[str, HeaderValue]:
        """All fields, names in lower case."""
        headers: dict[str, HeaderValue] = {}
        for name, value in self.lines:
            present = headers.get(name.lower())
            if present is None:
                headers[name.lower()] = value
            elif isinstance(present, list):
                present.append(value)
            else:
                headers[name.lower()] = [present, value]
        return headers

    def set_header(self, name: str, value: HeaderValue) -> None:
        """Replaces every field of that name."""
        self.clear_header(name)
        for one in [value] if isinstance(value, str) else value:
            self.add_header(name, one)

    def set_headers(self, fields: Sequence[tuple[str, HeaderValue | None]]) -> None:
        """Sets or, for None, removes several fields."""
        for name, value in fields:
            if value is None:
                self.clear_header(name)
            else:
                self.set_header(name, value)

    def add_header(self, name: str, value: str) -> None:
        """Adds one more field."""
        if _TOKEN.match(name) is None:
            raise ValueError(f"`{name}` is no header name")
        self.lines.append((name, checked_value(value)))

    def clear_header(self, name: str) -> None:
        """Removes every field of that name."""
        lower_name = name.lower()
        self.lines = [line for line in self.lines if line[0].lower() != lower_name]
