# SPDX-License-Identifier: Apache-2.0
"""Where is the content of sessions kept, if not in the cookie?

A store knows sessions by a hash of their id: who reads the store cannot make a cookie of what is in it, as those are
sealed, nor find a session whose cookie was seen.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from pylae.sdk.entities import CallFailed, Entities, Lookup, Row

TABLE: Final = "sessions"
METADATA_TABLE: Final = "session_metadatas"
_MIN_TTL_S: Final = 1.0
_TAKEN: Final = "unique constraint violation"


def key_of(session_id: str) -> str:
    """What a session is stored under."""
    return hashlib.sha256(session_id.encode()).hexdigest()


class Store(Protocol):
    """Keeps texts for a while. All of it may raise `SystemUnavailable` or `CallFailed`."""

    async def load(self, session_id: str, *, is_fresh: bool = False) -> str | None:
        """What was saved; None once it is deleted or over. `is_fresh` asks past every cache."""
        ...

    async def save(self, session_id: str, text: str, ttl_s: float, *, audience: str = "", subject: str | None = None) -> None:
        """Keeps a text for so long, in the place of what was there; whose it is may be noted for administrators."""
        ...

    async def change(self, session_id: str, text: str, ttl_s: float) -> None:
        """Keeps another text in the place of the one that is there; what is gone stays gone."""
        ...

    async def delete(self, session_id: str) -> None:
        """Forgets it, for every worker at once."""
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...


class DatabaseStore:
    """Sessions as rows of the gateway's database: known to all workers, gone for all at once when deleted.

    Args:
        entities: the worker's.
        has_metadata: notes whose each session is, in a table of its own.
    """

    def __init__(self, entities: Entities, *, has_metadata: bool = False) -> None:
        self._entities = entities
        self._has_metadata = has_metadata
        self._rows: Lookup = entities.lookup(TABLE, "session_id")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    async def load(self, session_id: str, *, is_fresh: bool = False) -> str | None:
        """Asks the cache, which forgets by delta."""
        key = key_of(session_id)
        row: Row | None = await (self._entities.select_by(TABLE, "session_id", key) if is_fresh else self._rows.get(key))
        return None if row is None else row["data"]

    async def save(self, session_id: str, text: str, ttl_s: float, *, audience: str = "", subject: str | None = None) -> None:
        """Writes a row that ends by itself, or changes it."""
        ttl_s = max(ttl_s, _MIN_TTL_S)
        key = key_of(session_id)
        fields = {"session_id": key, "data": text}
        try:
            row = await self._entities.insert(TABLE, fields, ttl_s=ttl_s)
        except CallFailed as failure:
            if failure.name != _TAKEN:
                raise
            await self._change(key, {"data": text}, ttl_s)
            return
        if self._has_metadata and subject is not None:
            metadata = {"session": {"id": row["id"]}, "sid": key, "audience": audience, "subject": subject}
            await self._entities.insert(METADATA_TABLE, metadata)

    async def change(self, session_id: str, text: str, ttl_s: float) -> None:
        """Changes the row, if it is there."""
        await self._change(key_of(session_id), {"data": text}, max(ttl_s, _MIN_TTL_S))

    async def _change(self, key: str, changes: Row, ttl_s: float) -> None:
        row = await self._entities.select_by(TABLE, "session_id", key)
        if row is not None:
            await self._entities.update(TABLE, row["id"], changes, ttl_s)

    async def delete(self, session_id: str) -> None:
        """Takes the row away; of all who try, one does."""
        await self._entities.consume(TABLE, "session_id", key_of(session_id))

    async def close(self) -> None:
        """It holds nothing."""
