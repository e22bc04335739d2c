# SPDX-License-Identifier: Apache-2.0
"""Where does the next page of a collection begin?"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

import msgspec

from pylae.database.changes import Row
from pylae.errors import InvalidOffset

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000

MAX_OFFSET_CHARACTERS: Final = 1024
"""More than any offset of ours has."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}\Z")
_SHOWN_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a collection, and the offset of the next if there are more."""

    rows: list[Row]
    offset: str | None


def offset_after(*key: str) -> str:
    """The offset of the page that follows a row of this primary key.

    >>> offset_after("057f17ae-43fc-4fa8-b19a-06197d8222d6")
    'WyIwNTdmMTdhZS00M2ZjLTRmYTgtYjE5YS0wNjE5N2Q4MjIyZDYiXQ'
    """
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def key_before(offset: str, length: int = 1) -> tuple[str, ...]:
    """The primary key of the row that a page follows.

    Args:
        offset: as `offset_after` made it.
        length: how many values the key has.

    Raises:
        InvalidOffset: no page of ours had this offset.
    """
    if len(offset) > MAX_OFFSET_CHARACTERS:
        raise InvalidOffset(f"{offset[:_SHOWN_CHARACTERS]}...", f"longer than {MAX_OFFSET_CHARACTERS} characters")
    text = offset.rstrip("=")
    if _BASE64.match(offset) is None or len(text) % 4 == 1:
        raise InvalidOffset(offset, "bad base64 encoding")
    decoded = base64.urlsafe_b64decode(text.translate({43: 45, 47: 95}) + "=" * (-len(text) % 4))
    try:
        key = msgspec.json.decode(decoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidOffset(offset, "bad json encoding") from error
    if not isinstance(key, list) or len(key) != length or not all(isinstance(value, str) for value in key):
        raise InvalidOffset(offset, "bad offset string")
    return tuple(key)


def id_before(offset: str) -> str:
    """The id of the row that a page follows.

    Raises:
        InvalidOffset: no page of ours had this offset.
    """
    return key_before(offset)[0]
