# SPDX-License-Identifier: Apache-2.0
"""What must a worker be sent to serve the newest configuration?

Rows of the snapshot tables stay encoded in memory, so that a snapshot of 10,000 Routes is a concatenation and a
delta one look-up per change. Rows enter here in commit order, on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from pylae.control.expansion import VAULTS, Expansion
from pylae.control.frames import encode_value, frame, message
from pylae.control.matchers import for_workers, is_served
from pylae.database.changes import SNAPSHOT_TABLES, Change, Commit, Replacement
from pylae.sdk.references import MARK

PLUGINS: Final = "plugins"
ROUTES: Final = "routes"
SERVICES: Final = "services"
MAX_REMEMBERED_CHANGES: Final = 10_000
"""A worker that is further behind gets a snapshot, which is then smaller than the delta would be."""

Version = tuple[str, int]


class _Named(msgspec.Struct):
    """A plugin's row by its name; all else is skipped."""

    name: str
    enabled: bool = True


class _Trusting(msgspec.Struct):
    """A Service by the certificates it names."""

    client_certificate: Any = None
    ca_certificates: Any = None


_decode_trusting = msgspec.msgpack.Decoder(_Trusting).decode
_decode_name = msgspec.msgpack.Decoder(_Named).decode


class Feed:
    """The newest configuration and the way to it from the last changes.

    Args:
        database_id: which database this is.
        sequence: of the last change that `rows` hold.
        rows: of every snapshot table.
        changes: the tail of the change log up to `sequence`, oldest first, without a gap.

    Attributes:
        expansion: works rows of `vaults` into the references of plugins.
    """

    def __init__(
        self,
        database_id: str,
        sequence: int,
        rows: Mapping[str, Iterable[Mapping[str, Any]]],
        changes: Sequence[Change] = (),
    ) -> None:
        self.database_id = database_id
        self.sequence = sequence
        self._rows: dict[str, dict[str, bytes]] = {
            table: {row["id"]: encode_value(row) for row in rows.get(table, ())} for table in SNAPSHOT_TABLES
        }
        # Invariant: holds every change after `_remembers_after`, up to `sequence`.
        self._changes: deque[Change] = deque(changes, MAX_REMEMBERED_CHANGES)
        self._remembers_after = self._changes[0].sequence - 1 if self._changes else sequence
        self._snapshot_frame: bytes | None = None
        self._delta_frame: tuple[int, bytes] | None = None
        self.expansion: Expansion | None = None

    @classmethod
    def of_encoded(cls, database_id: str, sequence: int, rows: Mapping[str, dict[str, bytes]]) -> Feed:
        """A feed of rows that are encoded already, by table and id."""
        feed = cls(database_id, sequence, {})
        feed._rows = {table: rows.get(table, {}) for table in SNAPSHOT_TABLES}
        return feed

    def __repr__(self) -> str:
        counts = " ".join(f"{table}={len(rows)}" for table, rows in self._rows.items())
        return f"<feed {self.database_id}:{self.sequence} {counts}>"

    @property
    def version(self) -> Version:
        """Database and sequence."""
        return self.database_id, self.sequence

    def is_as_at(self, version: Version) -> bool:
        """Whether the rows that workers hold are those of another version; one that is not remembered is taken for another."""
        database_id, after = version
        if database_id != self.database_id or not self._remembers_after <= after <= self.sequence:
            return False
        for change in reversed(self._changes):
            if change.sequence <= after:
                break
            if change.table in self._rows:
                return False
        return True

    def same_since(self) -> int:
        """The oldest sequence from which on `is_as_at` holds."""
        changed = (change.sequence for change in reversed(self._changes) if change.table in self._rows)
        return max(next(changed, 0), self._remembers_after)

    def apply(self, commit: Commit | Replacement) -> None:
        """Takes in what a transaction changed; commits come in order."""
        if self.expansion is not None:
            self.expansion.apply(commit)
        if isinstance(commit, Replacement):
            # The tables are those of the strategy: what is never written to may be held by two.
            self._rows = {table: commit.rows.get(table, {}) for table in SNAPSHOT_TABLES}
        for change in commit.changes:
            rows = self._rows.get(change.table)
            if rows is not None and isinstance(commit, Commit):
                if change.row is None:
                    rows.pop(change.id, None)
                else:
                    rows[change.id] = encode_value(change.row)
            if len(self._changes) == MAX_REMEMBERED_CHANGES:
                self._remembers_after = self._changes[0].sequence
            # Without its row, of which there is the encoded one.
            self._changes.append(change if change.row is None else replace(change, row=None))
        self.sequence = commit.sequence
        if isinstance(commit, Replacement) and commit.is_whole:
            self._changes.clear()
            self._remembers_after = self.sequence
        self._snapshot_frame = self._delta_frame = None

    def hypothetical(self, commit: Commit | Replacement) -> Feed:
        """What it would be after a transaction that nobody makes."""
        made = Feed.of_encoded(self.database_id, self.sequence, self.rows())
        made.expansion = None if self.expansion is None else self.expansion.copy()
        made.apply(commit)
        return made

    def rows(self) -> dict[str, dict[str, bytes]]:
        """The encoded rows of every snapshot table by id, as they are at this moment."""
        return {table: dict(rows) for table, rows in self._rows.items()}

    def plugin_names(self) -> set[str]:
        """The plugins that are configured and not disabled."""
        named = map(_decode_name, self._rows[PLUGINS].values())
        return {row.name for row in named if row.enabled}

    def trusting_services(self, ids: Iterable[str] | None = None) -> list[str]:
        """Which of these Services, or of all, name certificates; workers use none of them yet."""
        rows = self._rows[SERVICES]
        found = []
        for id_ in rows if ids is None else ids:
            if id_ in rows:
                row = _decode_trusting(rows[id_])
                if row.client_certificate is not None or row.ca_certificates is not None:
                    found.append(id_)
        return found

    def withheld_routes(self, ids: Iterable[str] | None = None) -> list[str]:
        """Which of these Routes, or of all, workers do not get."""
        rows = self._rows[ROUTES]
        return [id_ for id_ in (rows if ids is None else ids) if id_ in rows and not is_served(rows[id_])]

    def snapshot(self) -> bytes:
        """The whole configuration, as a frame."""
        if self._snapshot_frame is None:
            entities = {
                table: [sent for row in rows.values() if (sent := self._sent(table, row)) is not None]
                for table, rows in self._rows.items()
            }
            self._snapshot_frame = message("snapshot", {"version": self.version, "entities": entities})
        return self._snapshot_frame

    def _sent(self, table: str, row: bytes) -> msgspec.Raw | None:
        """A row as workers get it; None for one that is not for them."""
        if table == ROUTES:
            told = for_workers(row)
            return None if told is None else msgspec.Raw(told)
        if self.expansion is not None and table == PLUGINS and MARK in row:
            row = self.expansion.of_row(row)
        return msgspec.Raw(row)

    def since(self, version: Version | None) -> bytes:
        """What brings a worker from its version to the newest: a delta if the changes are known, else a snapshot."""
        if version is None or version[0] != self.database_id:
            return self.snapshot()
        after = version[1]
        if not self._remembers_after <= after <= self.sequence:
            return self.snapshot()
        if self._delta_frame is None or self._delta_frame[0] != after:
            self._delta_frame = after, self._delta(after)
        return self._delta_frame[1]

    def _delta(self, after: int) -> bytes:
        newest: dict[tuple[str, str], None] = {}
        invalidations: dict[tuple[str, str, Any], None] = {}
        has_vaults = False
        # Newest first: what a worker asks for is nearly always the last change or two.
        for change in reversed(self._changes):
            if change.sequence <= after:
                break
            has_vaults = has_vaults or change.table == VAULTS
            if change.table in self._rows:
                newest.setdefault((change.table, change.id))
            invalidations.update(dict.fromkeys(change.invalidations))
        if has_vaults:
            referring = (id_ for id_, row in self._rows[PLUGINS].items() if MARK in row)
            # First here is last in the delta: each of them has its Route and Service by then.
            newest = dict.fromkeys([*((PLUGINS, id_) for id_ in referring), *newest])
        changes = []
        for table, id_ in reversed(newest):
            # The row as it is now: a change in between that was undone since is not worth sending.
            row = self._rows[table].get(id_)
            sent = None if row is None else self._sent(table, row)
            changes.append([table, "delete", id_, None] if sent is None else [table, "upsert", id_, sent])
        body = {
            "from": after,
            "to": self.sequence,
            "database_id": self.database_id,
            "changes": changes,
            "invalidations": list(invalidations),
        }
        return frame(encode_value(["delta", body]))
