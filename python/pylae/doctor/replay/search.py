# SPDX-License-Identifier: Apache-2.0
"""Which is the smallest set of things that still fails? Each may be left out; what fails without which is asked, not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

MOST_RUNS: Final = 2_000

Fails = Callable[[frozenset[int]], bool | None]
"""Whether a set still fails; None when that can't be told."""


class Exhausted(Exception):
    """No further set may be tried."""


@dataclass
class Search:
    """Looks for the smallest of the sets that fail.

    Attributes:
        fails: asked once for each set.
        may_go_on: asked before each.
    """

    fails: Fails
    may_go_on: Callable[[], bool]

    def __post_init__(self) -> None:
        self._known: dict[frozenset[int], bool | None] = {}

    @property
    def run_count(self) -> int:
        """Sets tried."""
        return len(self._known)

    def ask(self, members: frozenset[int]) -> bool | None:
        """Whether a set fails.

        Raises:
            Exhausted: it may not be tried.
        """
        if members not in self._known:
            if len(self._known) >= MOST_RUNS or not self.may_go_on():
                raise Exhausted
            self._known[members] = self.fails(members)
        return self._known[members]

    def smallest(self, members: Sequence[int], suspect: int, *, is_needed: bool) -> tuple[list[int], bool]:
        """The smallest set, and whether no smaller one fails; else only none of it can be left out, or not even that.

        Args:
            members: all of them, which fail together.
            suspect: tried first.
            is_needed: whether nothing fails without the suspect.
        """
        best = list(members)
        try:
            if self.ask(frozenset((suspect,))):
                # Nothing is smaller: without any of them nothing is changed.
                return [suspect], True
            best = self._without_the_needless(best, suspect)
            others = [member for member in members if member != suspect] if is_needed else list(members)
            return self._smaller_than(best, others, (suspect,) if is_needed else ())
        except Exhausted:
            return best, False

    def _without_the_needless(self, members: list[int], suspect: int) -> list[int]:
        """Leaves out one after the other what can be, until nothing can."""
        kept = list(members)
        is_changed = True
        while is_changed:
            is_changed = False
            for member in sorted(kept, key=lambda member: (member == suspect, -member)):
                fewer = [other for other in kept if other != member]
                if fewer and self._asked_quietly(frozenset(fewer)):
                    kept = fewer
                    is_changed = True
        return kept

    def _asked_quietly(self, members: frozenset[int]) -> bool:
        """Whether a set fails; not, when it may not be tried."""
        try:
            return bool(self.ask(members))
        except Exhausted:
            return False

    def _smaller_than(self, best: list[int], members: Sequence[int], needed: tuple[int, ...]) -> tuple[list[int], bool]:
        """The first of the smaller sets that fails, if there is one."""
        try:
            for size in range(1, len(best)):
                for some in combinations(members, size - len(needed)):
                    if self.ask(frozenset((*needed, *some))):
                        return sorted((*needed, *some)), self._is_all_told(size)
        except Exhausted:
            return best, False
        return best, self._is_all_told(len(best))

    def _is_all_told(self, size: int) -> bool:
        """Whether it could be told of every smaller set that was tried."""
        return all(fails is not None for some, fails in self._known.items() if len(some) < size)
