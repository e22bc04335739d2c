# SPDX-License-Identifier: Apache-2.0
"""What is a session?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class StoredSession(Entity):
    """A session kept in the database."""

    table = "sessions"
    endpoint_key = "session_id"
    cache_key = ("session_id",)
    ttl = True
    workspaceable = False
    in_declarative_export = False

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the row.")
    session_id: str = field(
        kinds.string(),
        required=True,
        unique=True,
        secret=True,
        encrypted=False,
        doc="Identifies the session; the cookie names it.",
    )
    expires: int | None = field(kinds.integer(), unit="seconds since the epoch", doc="When the session ends.")
    data: str | None = field(kinds.string(), secret=True, encrypted=False, doc="Encrypted content of the session.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")


class SessionMetadata(Entity):
    """Whose session it is."""

    table = "session_metadatas"
    workspaceable = False
    admin_generated = False
    in_declarative_export = False

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the row.")
    session: dict[str, str] = field(kinds.foreign("sessions", on_delete="cascade"), required=True, doc="Session it tells of.")
    sid: str | None = field(kinds.string(), secret=True, encrypted=False, doc="Id of the session.")
    audience: str | None = field(kinds.string(), doc="Application the session is for.")
    subject: str | None = field(kinds.string(), doc="Who the session belongs to.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
