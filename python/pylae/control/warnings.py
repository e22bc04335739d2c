# SPDX-License-Identifier: Apache-2.0
"""What works today and will make requests fail?

Workers say what they notice, and parts of control do. A warning is active until it was not seen for an hour, or until
who gave it takes it back. What is kept is bounded; what cannot be read is counted.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from pylae.control.line import Log, WorkerState
from pylae.control.warning_texts import TEXTS, Facts, Told

WARNINGS_CHANNEL: Final = "warnings"
WORKER_KINDS: Final = ("idle_timeout", "request_header_size", "response_header_size", "upstream_certificate")
"""Kinds that workers give."""
FORGOTTEN_AFTER_S: Final = 3600.0
MAX_ACTIVE: Final = 1000
"""Of one kind; beyond it the one that was longest not seen goes."""
MAX_ITEM_BYTES: Final = 4096
LINES_PER_S: Final = 10
"""Lines in the error log; of more there is only their number."""
MAX_SHOWN_BYTES: Final = 100

# Names of a certificate, each of their bytes escaped, among them.
Text = Annotated[str, msgspec.Meta(max_length=2048)]
Fact = Text | float | int | bool | list[Text] | None


class Item(msgspec.Struct, frozen=True):
    """What a worker streams."""

    kind: Text
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=180)]
    facts: Annotated[dict[str, Fact], msgspec.Meta(max_length=32)] = {}


@dataclass(slots=True)
class Warned:
    """One warning.

    Attributes:
        key: tells it from others of its kind.
        facts: what was seen last.
        since_s: when it was first seen, since it was not active; the time of the epoch.
        count: how often it was given.
    """

    kind: str
    key: str
    facts: Facts
    since_s: float
    last_seen_s: float
    count: int


class Warnings:
    """The warnings that are active.

    Args:
        log: takes lines for the error log.
        admin_url: of the Admin API, for the calls in a cure.
        now_s: the time of the epoch.
    """

    def __init__(self, log: Log, admin_url: str, now_s: Callable[[], float] = time.time) -> None:
        self._log = log
        self._admin_url = admin_url
        self.now_s = now_s
        # By kind, the one that was longest not seen first.
        self._active: dict[str, OrderedDict[str, Warned]] = {kind: OrderedDict() for kind in TEXTS}
        self._decode = msgspec.json.Decoder(Item).decode
        self._second = -1
        self._line_count = 0
        self._untold_count = 0
        self.unreadable_count = 0
        self.lost_count = 0

    def __repr__(self) -> str:
        return f"<warnings {' '.join(f'{kind}={count}' for kind, count in self.counts().items() if count)}>"

    # === what is noticed ===

    def take(self, worker: WorkerState | None, items: Iterable[bytes], lost_count: int = 0) -> None:
        """Keeps what a worker noticed.

        Args:
            worker: who; all workers' warnings are one.
            items: JSON of an `Item` each.
            lost_count: items that the worker could not send.
        """
        del worker
        self.lost_count += lost_count
        for item in items:
            try:
                if len(item) > MAX_ITEM_BYTES:
                    raise ValueError(f"larger than {MAX_ITEM_BYTES} bytes")
                found = self._decode(item)
                if found.kind not in WORKER_KINDS:
                    raise ValueError(f"workers give no warnings of the kind `{found.kind}`")
                if not found.key.isprintable():
                    raise ValueError("its key is not printable")
            except (ValueError, TypeError, RecursionError) as error:
                self.unreadable_count += 1
                if self.unreadable_count == 1:
                    shown = repr(item[:MAX_SHOWN_BYTES] if isinstance(item, bytes) else type(item).__name__)
                    self._log("error", f"a warning cannot be read: {error}: {shown}; further ones are only counted")
                continue
            self.give(found.kind, found.key, found.facts)

    def give(self, kind: str, key: str, facts: Mapping[str, Any], *, is_state: bool = False) -> None:
        """Something was seen.

        Args:
            kind: one of `TEXTS`.
            key: tells it from others of its kind.
            facts: what was seen.
            is_state: it is still so, rather than again.
        """
        self.forget_old()
        of_kind, now_s = self._active[kind], self.now_s()
        warned = of_kind.get(key)
        if warned is None:
            warned = of_kind[key] = Warned(kind, key, facts, now_s, now_s, 1)
            if len(of_kind) > MAX_ACTIVE:
                of_kind.popitem(last=False)
            self._tell(warned, now_s)
            return
        warned.facts, warned.last_seen_s = facts, now_s
        warned.count += not is_state
        of_kind.move_to_end(key)

    def take_back(self, kind: str, key: str) -> None:
        """It is no more so."""
        self._active[kind].pop(key, None)

    def is_active(self, kind: str, key: str) -> bool:
        """Whether it was given and not taken back."""
        return key in self._active[kind]

    def forget_old(self) -> None:
        """Drops what was not seen for long."""
        before_s = self.now_s() - FORGOTTEN_AFTER_S
        for of_kind in self._active.values():
            while of_kind and next(iter(of_kind.values())).last_seen_s <= before_s:
                of_kind.popitem(last=False)

    def _tell(self, warned: Warned, now_s: float) -> None:
        if int(now_s) != self._second:
            self._second, self._line_count = int(now_s), 0
            if self._untold_count:
                self._log("warn", f"{self._untold_count} more warnings; hint: GET /warnings")
                self._untold_count = 0
        if self._line_count == LINES_PER_S:
            self._untold_count += 1
            return
        self._line_count += 1
        told = self.told(warned)
        self._log("warn", f"{told.text}{''.join(f'; hint: {cure}' for cure in told.cure[:1])}")

    # === what is active ===

    def told(self, warned: Warned) -> Told:
        """A warning in words."""
        return TEXTS[warned.kind](warned.key, warned.facts, self._admin_url)

    def counts(self) -> Counter[str]:
        """How many are active, of every kind there is."""
        self.forget_old()
        return Counter({kind: len(of_kind) for kind, of_kind in self._active.items()})

    def every(self, after: tuple[str, str] = ("", "")) -> Iterator[Warned]:
        """Those that follow this kind and key, in order."""
        self.forget_old()
        keys = sorted((kind, key) for kind, of_kind in self._active.items() for key in of_kind if (kind, key) > after)
        return (self._active[kind][key] for kind, key in keys if key in self._active[kind])
