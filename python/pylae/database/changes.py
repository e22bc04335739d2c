# SPDX-License-Identifier: Apache-2.0
"""What did one write change, and what may others no longer believe?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Row = dict[str, Any]
Operation = Literal["upsert", "delete"]
Invalidation = tuple[str, str, Any]
"""Table, field, value: look-ups that rest on it are stale."""

SNAPSHOT_TABLES: Final = ("services", "routes", "plugins", "upstreams", "targets")
"""Tables every worker holds whole; rows of all others are looked up by call."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row that came, changed or went, as the change log keeps it.

    Attributes:
        sequence: its place in the change log; 0 until it is logged.
        row: the new row as the Admin API shows it; None for a deletion, and for one read back from the log.
    """

    sequence: int
    table: str
    operation: Operation
    id: str
    row: Row | None
    invalidations: tuple[Invalidation, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything one transaction changed."""

    changes: Sequence[Change]

    @property
    def sequence(self) -> int:
        """Of the last change; the database's version after the transaction."""
        return self.changes[-1].sequence


@dataclass(frozen=True, slots=True)
class Replacement:
    """A whole configuration that took the place of another.

    Attributes:
        changes: how the two differ; none when `is_whole`.
        sequence: of the last change.
        rows: all rows, encoded, by table and id.
        is_whole: whether the changes are too many to be told one by one.
        plugins: names of those that are configured now.
    """

    changes: Sequence[Change]
    sequence: int
    rows: Mapping[str, dict[str, bytes]]
    is_whole: bool
    plugins: frozenset[str] = frozenset()
