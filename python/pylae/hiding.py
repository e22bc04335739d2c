# SPDX-License-Identifier: Apache-2.0
"""How is a secret kept out of a text, however it is written there?

A secret reaches a log not only as it is: an exception shows it with escapes (`repr`, JSON), a parser only the line of
a key that it stumbled over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

MASK: Final = "******"
SHORTEST_WORD: Final = 4
"""Shorter ones are left in texts: hiding every `a` would leave none readable."""
SHORTEST_LINE: Final = 12
"""Shorter lines of a word of many lines are left in texts."""
_BOUNDARY: Final = "-----"
"""Begins the lines of a PEM text that say what it is."""


def _escaped(text: str) -> set[str]:
    """A text as `repr` and JSON write it."""
    return {
        text,
        repr(text)[1:-1],
        # As in a longer text that holds both kinds of quotes.
        repr(f"'\"{text}")[4:-1],
        repr(text.encode("utf-8", "surrogatepass"))[2:-1],
        ascii(text)[1:-1],
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }


def forms_of(words: Iterable[str]) -> list[str]:
    """Everything by which words could be told, the longest first."""
    forms: set[str] = set()
    for word in words:
        if len(word) < SHORTEST_WORD:
            continue
        forms |= _escaped(word)
        lines = word.splitlines()
        if len(lines) > 1:
            for line in map(str.strip, lines):
                if len(line) >= SHORTEST_LINE and not line.startswith(_BOUNDARY):
                    forms |= _escaped(line)
    return sorted(forms, key=len, reverse=True)


def hidden(text: str, forms: Sequence[str]) -> str:
    """A text with a mask in the place of each form."""
    for form in forms:
        text = text.replace(form, MASK)
    return text
