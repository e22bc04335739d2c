# SPDX-License-Identifier: Apache-2.0
"""How does a test wait for something that another process will do?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.005

T = TypeVar("T")


def until(condition: Callable[[], T | None], what: str, within_s: float = 5.0) -> T:
    """Poll `condition` until it is truthy and return its value.

    Args:
        condition: asked every 5 ms; a falsy answer means not yet.
        what: ends the sentence "waited N s for ..." of the failure.
        within_s: patience in seconds; generous values cost nothing when the condition holds.

    Raises:
        AssertionError: the condition did not hold in time.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {within_s:g} s for {what}")
        time.sleep(POLL_S)


def holds_for(condition: Callable[[], bool], what: str, for_s: float) -> None:
    """Fail as soon as `condition` is false within the next `for_s` seconds."""
    deadline_s = time.monotonic() + for_s
    while time.monotonic() < deadline_s:
        assert condition(), what
        time.sleep(POLL_S)
