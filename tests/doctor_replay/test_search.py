# SPDX-License-Identifier: Apache-2.0
"""Is the smallest set that fails found, whatever makes sets fail?"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain, combinations

import pytest

from pylae.doctor.replay.search import MOST_RUNS, Search


def smallest_by_trying_all(members: list[int], fails: Callable[[frozenset[int]], bool | None]) -> int:
    sets = chain.from_iterable(combinations(members, size) for size in range(1, len(members) + 1))
    return next(len(some) for some in sets if fails(frozenset(some)))


@pytest.mark.parametrize("seed", range(40))
def test_no_smaller_set_fails_than_the_one_found(seed: int) -> None:
    chance = random.Random(seed)
    members = list(range(chance.randint(1, 9)))
    suspect = chance.choice(members)
    causes = [frozenset(chance.sample(members, chance.randint(1, len(members)))) | {suspect} for _ in range(3)]
    # Some members undo a failure: leaving more out does not always leave less failing.
    healer = chance.choice(members)

    def fails(some: frozenset[int]) -> bool | None:
        if some == frozenset(members):
            return True
        return any(cause <= some and (healer not in some or healer in cause) for cause in causes)

    search = Search(fails, lambda: True)
    found, is_smallest = search.smallest(members, suspect, is_needed=True)
    assert is_smallest
    assert fails(frozenset(found))
    assert len(found) == smallest_by_trying_all(members, fails)


def test_what_cannot_be_told_is_not_taken_for_failing() -> None:
    search = Search(lambda some: True if len(some) == 4 else None, lambda: True)
    assert search.smallest([0, 1, 2, 3], 2, is_needed=False) == ([0, 1, 2, 3], False)


def test_search_ends_and_says_that_a_smaller_set_may_be_left() -> None:
    needed = frozenset(range(0, 32, 2))
    search = Search(lambda some: needed <= some, lambda: True)
    found, is_smallest = search.smallest(list(range(32)), 0, is_needed=False)
    assert (frozenset(found), is_smallest) == (needed, False)
    assert search.run_count <= MOST_RUNS


def test_search_that_may_not_go_on_gives_what_it_has() -> None:
    search = Search(lambda some: True, lambda: False)
    assert search.smallest([3, 4], 4, is_needed=True) == ([3, 4], False)
