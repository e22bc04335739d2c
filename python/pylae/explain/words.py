# SPDX-License-Identifier: Apache-2.0
"""How do facts look in a sentence? Whatever came from outside is escaped, cut short and put into backticks."""

from __future__ import annotations

import unicodedata
from typing import Final

SHOWN_CHARACTERS: Final = 200
SECOND_MS: Final = 1000.0
_NEAR_MS: Final = 250.0
ROUND_SECONDS: Final = (
    1,
    2,
    3,
    5,
    10,
    15,
    20,
    25,
    29,
    30,
    40,
    45,
    50,
    55,
    60,
    75,
    90,
    100,
    110,
    120,
    150,
    180,
    240,
    300,
    350,
    600,
    900,
    1800,
    3600,
)
"""Times that people, and the makers of servers and load balancers, choose for timeouts."""


def escaped(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A text without anything that a terminal, a log or a reader's eye could be misled by, cut to a length."""
    cut = text[:limit]
    shown = "".join(character if _is_plain(character) else _escape(character) for character in cut)
    return f"{shown}..." if len(text) > limit else shown


def quoted(text: str | None, limit: int = SHOWN_CHARACTERS) -> str:
    """A text from outside, in backticks; `(not known)` without them when there is none."""
    if not text:
        return "(not known)"
    return f"`{escaped(text, limit).replace('`', chr(39))}`"


def _is_plain(character: str) -> bool:
    # Cc, Cf (bidirectional overrides), Cs, Co, Cn, Zl, Zp; and blanks that look like nothing or like more.
    return character == " " or unicodedata.category(character)[0] in "LMNPS"


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02X}" if number < 0x100 else f"\\u{{{number:X}}}"


def ms(value: float | None) -> str:
    """A time in words: `0.31 ms`, `4998 ms`, `60.0 s`, `2 min`."""
    if value is None:
        return "an unknown time"
    if value < 10:
        return f"{value:.2f} ms"
    if value < 10 * SECOND_MS:
        return f"{value:.0f} ms"
    if value < 600 * SECOND_MS:
        return f"{value / SECOND_MS:.1f} s"
    if value < 48 * 3600 * SECOND_MS:
        return f"{value / SECOND_MS / 60:.0f} min"
    return f"{value / SECOND_MS / 86400:.0f} days"


def size(value: int | None) -> str:
    """Bytes in words: `1 byte`, `412 bytes`, `65,536 bytes`."""
    if value is None:
        return "an unknown number of bytes"
    return "1 byte" if value == 1 else f"{value:,} bytes"


def count(value: int, one: str, many: str | None = None) -> str:
    """`1 request`, `3 requests`."""
    return f"1 {one}" if value == 1 else f"{value:,} {many or one + 's'}"


def round_seconds(value: float | None) -> int | None:
    """The timeout somebody may have configured that a time is just over, in seconds; `None` when it is near none."""
    if value is None:
        return None
    for seconds in ROUND_SECONDS:
        over = value - seconds * SECOND_MS
        # Slow machines fire late, none fires early.
        if -20 <= over <= max(_NEAR_MS, seconds * 10.0):
            return seconds
    return None


def share(confidence: float) -> str:
    """A confidence in per cent."""
    return f"{confidence * 100:.0f} %"
