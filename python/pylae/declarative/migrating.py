# SPDX-License-Identifier: Apache-2.0
"""What does a Route's path of an older format mean today?

Formats 1.1 and 2.1 guessed which paths are regular expressions; since 3.0 these begin with a tilde.
"""

from __future__ import annotations

import re
from typing import Any, Final

OLD_FORMATS: Final = ("1.1", "2.1")

_PLAIN: Final = re.compile(r"[A-Za-z0-9.\-_~/%]*\Z")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_SPECIAL: Final = frozenset(r".^$*+?()[]{}|\-/")


def migrated_path(path: str) -> str:
    r"""The path as format 3.0 writes it.

    >>> [migrated_path(path) for path in ("/plain-1%20", "/user/\\d+$", "/a%2Db/.*", "~/new")]
    ['/plain-1%20', '~/user/\\d+$', '~/a\\-b/.*', '~/new']
    """
    if path.startswith("~") or _PLAIN.match(path):
        return path
    return "~" + _ESCAPE.sub(_decoded, path)


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    if not character.isascii() or not character.isprintable():
        return match[0]
    # What stood for itself still does.
    return "\\" + character if character in _SPECIAL else character


def migrated_route(values: dict[str, Any]) -> dict[str, Any]:
    """A Route with its paths migrated; whatever is not proper is left for the schema to refuse."""
    paths = values.get("paths")
    if not isinstance(paths, list):
        return values
    return {**values, "paths": [migrated_path(path) if isinstance(path, str) else path for path in paths]}
