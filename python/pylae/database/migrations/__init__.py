# SPDX-License-Identifier: Apache-2.0
"""Which steps brought the tables to their present shape?

What is only added, a table or a column of a declaration, is added without a step of its own. Whatever renames,
moves or rewrites is a `Migration`, named, in order, run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        up: statements by strategy; one that is not named has nothing to do.
    """

    name: str
    up: Mapping[str, Sequence[str]]


MIGRATIONS: Final[Sequence[Migration]] = ()
"""In order; a database made today has them all behind it."""
