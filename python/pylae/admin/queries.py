# SPDX-License-Identifier: Apache-2.0
"""Which page of a collection does a query ask for?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from pylae.database.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from pylae.database.strategies import TagFilter
from pylae.errors import InvalidOptions, InvalidSize

MAX_TAGS: Final = 5


def page_size(query: Mapping[str, str]) -> int:
    """How many rows.

    Raises:
        InvalidSize: 400.
    """
    given = query.get("size")
    if given is None:
        return DEFAULT_PAGE_SIZE
    try:
        if not given.isascii() or "_" in given:
            # Python takes digits of every script, and `1_000`.
            raise ValueError(given)
        size = float(given)
    except ValueError as error:
        raise InvalidSize("size must be a number") from error
    if not size.is_integer() or not 1 <= size <= MAX_PAGE_SIZE:
        raise InvalidSize
    return int(size)


def tag_filter(query: Mapping[str, str]) -> TagFilter | None:
    """Which tags rows must have: `a,b` all of them, `a/b` any of them.

    Raises:
        InvalidOptions: 400.
    """
    given = query.get("tags")
    if given is None:
        return None
    if not given:
        raise InvalidOptions({"tags": "cannot be null"})
    is_any = "/" in given
    if is_any and "," in given:
        raise InvalidOptions({"tags": "invalid filter syntax"})
    tags = tuple(given.split("/" if is_any else ","))
    if not all(tags):
        raise InvalidOptions({"tags": "invalid filter syntax"})
    if len(tags) > MAX_TAGS:
        raise InvalidOptions({"tags": f"cannot query more than {MAX_TAGS} tags"})
    return TagFilter(tags, is_any)


def next_url(path: str, offset: str | None, query: Mapping[str, str], kept: tuple[str, ...] = ()) -> str | None:
    """Where the next page is; None on the last."""
    if offset is None:
        return None
    arguments = [("offset", offset), *((name, query[name]) for name in kept if name in query)]
    return f"{path}?" + "&".join(f"{name}={quote(value, safe=',/~')}" for name, value in arguments)
