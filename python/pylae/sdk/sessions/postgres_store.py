# SPDX-License-Identifier: Apache-2.0
"""How are sessions kept in PostgreSQL?

One row per session in a table that is made when it is missing; rows that are over are not seen, and taken away now and then.
asyncpg, whose statements carry values apart from their text.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pylae.sdk.auth.systems import SystemUnavailable
from pylae.sdk.sessions.stores import key_of

if TYPE_CHECKING:
    from asyncpg import Pool

_SWEPT_EVERY: Final = 100
"""Saves between two sweeps."""

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS pylae_sessions (
  key text PRIMARY KEY,
  data text NOT NULL,
  audience text,
  subject text,
  ends_at timestamptz NOT NULL
)
"""
_INDEX: Final = "CREATE INDEX IF NOT EXISTS pylae_sessions_ends_at ON pylae_sessions (ends_at)"
_LOAD: Final = "SELECT data FROM pylae_sessions WHERE key = $1 AND ends_at > now()"
_SAVE: Final = """
INSERT INTO pylae_sessions (key, data, audience, subject, ends_at)
VALUES ($1, $2, $3, $4, now() + $5 * interval '1 second')
ON CONFLICT (key) DO UPDATE SET data = excluded.data, ends_at = excluded.ends_at
"""
_CHANGE: Final = """
UPDATE pylae_sessions SET data = $2, ends_at = now() + $3 * interval '1 second' WHERE key = $1 AND ends_at > now()
"""
_DELETE: Final = "DELETE FROM pylae_sessions WHERE key = $1"
_SWEEP: Final = "DELETE FROM pylae_sessions WHERE key IN (SELECT key FROM pylae_sessions WHERE ends_at <= now() LIMIT 1000)"


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """Where a PostgreSQL server is, and how it is reached."""

    host: str = "127.0.0.1"
    port: int = 5_432
    user: str = "pylae"
    password: str | None = field(default=None, repr=False)
    database: str = "pylae"
    uses_tls: bool = False
    verifies_tls: bool = True
    timeout_ms: int = 5_000
    max_connections: int = 4
    trusted_certificates: Sequence[str] = ()

    @property
    def said(self) -> str:
        """What an operator calls it."""
        return f"PostgreSQL {self.host}:{self.port}/{self.database}"


class PostgresStore:
    """Sessions in PostgreSQL; connections are made when the first is asked for."""

    def __init__(self, place: PostgresPlace) -> None:
        self._place = place
        self._made: Pool[Any] | None = None
        self._making: asyncio.Lock = asyncio.Lock()
        self._saves_until_sweep = 0

    def __repr__(self) -> str:
        return f"<postgres store {self._place.said}>"

    async def load(self, session_id: str, *, is_fresh: bool = False) -> str | None:  # noqa: ARG002 - there is no cache
        """The row's text."""
        row = await self._run("fetchrow", _LOAD, key_of(session_id))
        return None if row is None else row["data"]

    async def save(self, session_id: str, text: str, ttl_s: float, *, audience: str = "", subject: str | None = None) -> None:
        """Adds or changes the row."""
        if self._saves_until_sweep == 0:
            self._saves_until_sweep = _SWEPT_EVERY
            await self._run("execute", _SWEEP)
        self._saves_until_sweep -= 1
        await self._run("execute", _SAVE, key_of(session_id), text, audience, subject, float(ttl_s))

    async def change(self, session_id: str, text: str, ttl_s: float) -> None:
        """Changes the row, if it is there."""
        await self._run("execute", _CHANGE, key_of(session_id), text, float(ttl_s))

    async def delete(self, session_id: str) -> None:
        """Takes the row away."""
        await self._run("execute", _DELETE, key_of(session_id))

    async def close(self) -> None:
        """Closes the connections."""
        if self._made is not None:
            made, self._made = self._made, None
            try:
                async with asyncio.timeout(self._place.timeout_ms / 1000):
                    await made.close()
            except TimeoutError:
                made.terminate()

    async def _run(self, method: str, statement: str, *values: Any) -> Any:
        # Loading the library takes some tens of milliseconds: not on the thread that serves.
        asyncpg = await asyncio.to_thread(_library)
        try:
            async with asyncio.timeout(self._place.timeout_ms / 1000):
                pool = await self._pool(asyncpg)
                return await getattr(pool, method)(statement, *values)
        except TimeoutError as error:
            raise SystemUnavailable(self._place.said, f"no answer within {self._place.timeout_ms} ms") from error
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidPasswordError) as error:
            raise SystemUnavailable(self._place.said, "it refused the login") from error
        except asyncpg.PostgresError as error:
            # The text of an error may quote a value; its class says enough.
            raise SystemUnavailable(self._place.said, f"it answered {type(error).__name__}") from error
        except OSError as error:
            raise SystemUnavailable(self._place.said, error.strerror or type(error).__name__) from error
        except asyncpg.InterfaceError as error:
            raise SystemUnavailable(self._place.said, type(error).__name__) from error

    async def _pool(self, asyncpg: Any) -> Pool[Any]:
        async with self._making:
            if self._made is None:
                place = self._place
                pool = await asyncpg.create_pool(
                    host=place.host,
                    port=place.port,
                    user=place.user,
                    password=place.password,
                    database=place.database,
                    ssl=await asyncio.to_thread(_tls_of, place) if place.uses_tls else False,
                    min_size=1,
                    max_size=place.max_connections,
                )
                try:
                    await _create_table(pool, asyncpg)
                except BaseException:
                    pool.terminate()
                    raise
                self._made = pool
            return self._made


async def _create_table(pool: Any, asyncpg: Any) -> None:
    try:
        await pool.execute(_CREATE)
        await pool.execute(_INDEX)
    except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
        # Another worker makes it at this moment; `IF NOT EXISTS` does not cover that.
        return
    except asyncpg.InsufficientPrivilegeError:
        # Somebody who may has made it, or the first statement will say that it is missing.
        return


def _library() -> Any:
    import asyncpg

    return asyncpg


def _tls_of(place: PostgresPlace) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path in place.trusted_certificates:
        context.load_verify_locations(path)
    if not place.verifies_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
