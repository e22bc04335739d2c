# SPDX-License-Identifier: Apache-2.0
"""When does a client say that it made a request? RFC 9110, section 5.6.7."""

from __future__ import annotations

import calendar
import functools
import re
from typing import Final

# Not those of `calendar`, which speak the language of the machine.
_MONTHS: Final = {"JanFebMarAprMayJunJulAugSepOctNovDec"[i * 3 : i * 3 + 3]: i + 1 for i in range(12)}
_MAX_CHARACTERS: Final = 40
_TIME: Final = r"(?P<h>[01]\d|2[0-3]):(?P<m>[0-5]\d):(?P<s>[0-5]\d|60)"
_FORMS: Final = (
    # The one to write, and two that are obsolete and still have to be read.
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)


def parse_date(text: str) -> int | None:
    """Seconds since the epoch; None for what is no HTTP date.

    >>> parse_date("Sun, 06 Nov 1994 08:49:37 GMT")
    784111777
    """
    return _parse(text) if len(text) <= _MAX_CHARACTERS else None


# Clients of the same second send the same date.
@functools.lru_cache(maxsize=1024)
def _parse(text: str) -> int | None:
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    month, day, year = _MONTHS.get(match["month"]), int(match["day"]), int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 70 else 2000
    if month is None or not 1 <= day <= 31 or year < 1970:
        return None
    return calendar.timegm((year, month, day, int(match["h"]), int(match["m"]), int(match["s"])))
