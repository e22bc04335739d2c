# SPDX-License-Identifier: Apache-2.0
"""How is a request that failed told in `error.log`?

One line with the verdict for each, up to a number a second; of those beyond it, one line a second counts them by cause
and Service. A few lines are made at once, then the lines to the workers have their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from pylae.control.explain import Head, Kept, Kind
from pylae.control.line import Log
from pylae.explain.verdict import Verdict

LINES_PER_S: Final = 50
"""Of each kind that has lines."""
LINES_AT_ONCE: Final = 4
"""A verdict takes as long as many records take to be kept."""
MAX_TOLD: Final = 10
"""Pairs of cause and Service in the line that counts."""
MAX_COUNTED: Final = 1000
LEVELS: Final[dict[Kind, tuple[str, str]]] = {"failed": ("warn", "request failed"), "refused": ("info", "request refused")}
"""Of the kinds that have lines: how severe they are, and how they begin."""
_SHARES: Final = (("summary", 384), ("evidence", 704), ("cure", 448))
"""How many bytes each of the long fields may have."""
_MAX_NAME_BYTES: Final = 64
_CUT: Final = "..."


class FailureLines:
    """Tells of requests that failed.

    Args:
        log: takes lines for the error log.
        is_shown: whether lines of a level are written at all.
        verdict: works out why a request failed.
        clock_s: a clock that never goes back.
    """

    def __init__(
        self,
        log: Log,
        is_shown: Callable[[str], bool],
        verdict: Callable[[Kept], Verdict],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._is_shown = is_shown
        self._verdict = verdict
        self._clock_s = clock_s
        self._second = -1
        self._line_counts: Counter[Kind] = Counter()
        self._waiting: deque[Kept] = deque()
        # By kind, cause and Service.
        self._untold: Counter[tuple[Kind, str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<failure lines waiting={self.waiting_count} untold={self._untold.total()}>"

    @property
    def waiting_count(self) -> int:
        """Lines that are still to be written."""
        return len(self._waiting)

    def take(self, kept: Kept, head: Head) -> None:
        """Tells of one request, or counts it."""
        del head
        level = LEVELS.get(kept.kind)
        if level is None or not self._is_shown(level[0]):
            return
        second = int(self._clock_s())
        if second != self._second:
            self.tell_untold()
            self._second = second
            self._line_counts.clear()
        if self._line_counts[kept.kind] < LINES_PER_S:
            self._line_counts[kept.kind] += 1
            self._waiting.append(kept)
            if len(self._waiting) == 1:
                asyncio.get_running_loop().call_soon(self._tell_some)
            return
        key = kept.kind, kept.cause or "unknown", kept.service[1] or kept.service[0] or "none"
        self._untold[key if key in self._untold or len(self._untold) < MAX_COUNTED else (kept.kind, "other", "other")] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1, self.tell_untold)

    def _tell_some(self) -> None:
        for _ in range(min(LINES_AT_ONCE, len(self._waiting))):
            self._tell_next()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._tell_some)

    def _tell_next(self) -> None:
        kept = self._waiting.popleft()
        self._log(LEVELS[kept.kind][0], self._line(kept))

    def tell_all(self) -> None:
        """Writes every line that is still to be written."""
        while self._waiting:
            self._tell_next()
        self.tell_untold()

    def _line(self, kept: Kept) -> str:
        try:
            return line_of(kept, self._verdict(kept))
        except Exception as error:
            # A mistake of ours must not hide that a request failed.
            what = f"no verdict: {type(error).__name__}: {error}"
            return (
                f"{LEVELS[kept.kind][1]}: {_of_record(kept, kept.cause)} summary={_joined([what], _SHARES[0][1])} {_of_id(kept)}"
            )

    def tell_untold(self) -> None:
        """Writes the line that counts, if there is anything to count."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, (level, beginning) in LEVELS.items():
            of_kind = Counter({(cause, service): count for (its, cause, service), count in self._untold.items() if its == kind})
            if of_kind:
                told = [
                    f"{count} cause={_name(cause)} service={_quoted(service, _MAX_NAME_BYTES)}"
                    for (cause, service), count in of_kind.most_common(MAX_TOLD)
                ]
                rest = of_kind.total() - sum(count for _, count in of_kind.most_common(MAX_TOLD))
                told += [f"{rest} of other causes and services"] if rest else []
                self._log(level, f"{beginning}: {of_kind.total()} more within a second: {', '.join(told)}; hint: GET /explain")
        self._untold.clear()


def line_of(kept: Kept, verdict: Verdict) -> str:
    """The line of one request, which has no character that could end it or a field of it."""
    beginning = LEVELS[kept.kind][1] if kept.kind in LEVELS else "request"
    fields = [
        _of_record(kept, verdict.cause or kept.cause),
        f"hop={_name(verdict.hop)}",
        f"phase={_name(verdict.phase)}",
        f"confidence={verdict.confidence:.2f}",
    ]
    long_fields = {"summary": [verdict.summary], "evidence": verdict.evidence, "cure": verdict.cure}
    fields += [f"{name}={_joined(long_fields[name], most)}" for name, most in _SHARES]
    return f"{beginning}: {' '.join(fields)} {_of_id(kept)}"


def _of_record(kept: Kept, cause: str | None) -> str:
    return f"status={'-' if kept.status is None else kept.status} cause={_name(cause)}"


def _of_id(kept: Kept) -> str:
    return f"request_id={_quoted(kept.id, _MAX_NAME_BYTES)}"


def _joined(sentences: Sequence[str], most_bytes: int) -> str:
    return _quoted("; ".join(sentences), most_bytes)


def _name(text: str | None) -> str:
    """A word that stands without quotes."""
    return _escaped(text, _MAX_NAME_BYTES).replace(" ", "_") if text else "-"


def _quoted(text: str, most_bytes: int) -> str:
    return f'"{_escaped(text, most_bytes)}"'


def _escaped(text: str, most_bytes: int) -> str:
    """A text as nginx escapes it, cut where it gets too long and never within an escape."""
    left = most_bytes - len(_CUT)
    pieces: list[str] = []
    for character in text:
        if character.isprintable() and character not in '"\\':
            piece = character
        else:
            number = ord(character)
            piece = f"\\x{number:02X}" if number < 0x100 else f"\\u{{{number:X}}}"
        left -= len(piece.encode(errors="replace"))
        if left < 0:
            return "".join(pieces) + _CUT
        pieces.append(piece)
    return "".join(pieces)
