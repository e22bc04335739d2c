# SPDX-License-Identifier: Apache-2.0
"""How is a difference between two configurations shown on a terminal?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from pylae.cli.talk import say
from pylae.declarative.diff import Difference

_SIGNS: Final = {"create": "+", "update": "~", "delete": "-"}
_COLOURS: Final = {"create": "32", "update": "33", "delete": "31"}
_encode_json = msgspec.json.Encoder(order="deterministic").encode


def wants_colour() -> bool:
    """Whether stdout is a terminal whose owner has not asked for none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(found: Iterable[Difference], *, keeps_others: bool) -> int:
    """Prints differences and their count.

    Args:
        found: what differs.
        keeps_others: whether rows that the file does not declare stay, and are only counted.

    Returns:
        How many rows would change.
    """
    is_coloured = wants_colour()
    counts: Counter[str] = Counter()
    # Gathered: a bar may be on the terminal until all were found.
    shown = [difference for difference in found if not (difference.operation == "delete" and _counted(counts, keeps_others))]
    for difference in shown:
        counts[difference.operation] += 1
        for line in lines(difference, is_coloured=is_coloured):
            say(line)
    if shown:
        say("")
    say(f"{counts['create']} to create, {counts['update']} to update, {counts['delete']} to delete")
    if counts["kept"]:
        say(f"{counts['kept']} more in the database, which an import leaves as they are")
    return len(shown)


def _counted(counts: Counter[str], keeps_others: bool) -> bool:  # noqa: FBT001 - a step of one function
    if keeps_others:
        counts["kept"] += 1
    return keeps_others


def lines(difference: Difference, *, is_coloured: bool) -> list[str]:
    """One row's difference: what it is, then field by field."""
    operation = difference.operation
    told = [f"{_SIGNS[operation]} {difference.table} {difference.name}"]
    for path, (before, after) in difference.fields.items():
        value = _value(after) if operation == "create" else f"{_value(before)} → {_value(after)}"
        told.append(f"    {path}: {value}")
    if not is_coloured:
        return told
    return [f"\x1b[{_COLOURS[operation]}m{line}\x1b[0m" for line in told]


def _value(value: Any) -> str:
    encoded: bytes = _encode_json(value)
    # As JSON: what stands in a row cannot steer the terminal.
    return encoded.decode().translate(_CONTROL)


_CONTROL: Final = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
