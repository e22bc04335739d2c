# SPDX-License-Identifier: Apache-2.0
"""How are sessions kept in Redis?

One string per session that ends by itself (`SET key text PX ms`), over connections that are kept: redis-py, in asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pylae.sdk.auth.systems import SystemUnavailable
from pylae.sdk.sessions.stores import key_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
_MIN_TTL_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where a Redis server is, and how it is reached."""

    host: str = "127.0.0.1"
    port: int = 6_379
    socket: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    uses_tls: bool = False
    verifies_tls: bool = False
    server_name: str | None = None
    timeout_ms: int = 2_000
    max_connections: int = 256
    prefix: str = "session"
    trusted_certificates: Sequence[str] = ()

    @property
    def said(self) -> str:
        """What an operator calls it."""
        if self.socket:
            return f"Redis unix:{self.socket}"
        return f"Redis {'rediss' if self.uses_tls else 'redis'}://{self.host}:{self.port}/{self.database}"


class RedisStore:
    """Sessions in Redis; the client is made when the first is asked for."""

    def __init__(self, place: RedisPlace) -> None:
        self._place = place
        self._made: Redis | None = None

    def __repr__(self) -> str:
        return f"<redis store {self._place.said}>"

    async def load(self, session_id: str, *, is_fresh: bool = False) -> str | None:  # noqa: ARG002 - there is no cache
        """`GET`."""
        client = await self._client()
        found = await self._asked(client.get(self._key(session_id)))
        return found.decode("ascii", "replace") if isinstance(found, bytes) else found

    async def save(
        self,
        session_id: str,
        text: str,
        ttl_s: float,
        *,
        audience: str = "",  # noqa: ARG002 - Redis keeps no list of them
        subject: str | None = None,  # noqa: ARG002
    ) -> None:
        """`SET` with its end."""
        client = await self._client()
        await self._asked(client.set(self._key(session_id), text, px=max(int(ttl_s * 1000), _MIN_TTL_MS)))

    async def change(self, session_id: str, text: str, ttl_s: float) -> None:
        """`SET` of what is there."""
        client = await self._client()
        await self._asked(client.set(self._key(session_id), text, px=max(int(ttl_s * 1000), _MIN_TTL_MS), xx=True))

    async def delete(self, session_id: str) -> None:
        """`DEL`."""
        client = await self._client()
        await self._asked(client.delete(self._key(session_id)))

    async def close(self) -> None:
        """Closes the connections."""
        if self._made is not None:
            made, self._made = self._made, None
            await made.aclose(close_connection_pool=True)

    def _key(self, session_id: str) -> str:
        return f"{self._place.prefix}:{key_of(session_id)}"

    async def _asked(self, answer: Awaitable[T]) -> T:
        from redis.exceptions import AuthenticationError, RedisError

        try:
            async with asyncio.timeout(self._place.timeout_ms / 1000):
                return await answer
        except TimeoutError as error:
            raise SystemUnavailable(self._place.said, f"no answer within {self._place.timeout_ms} ms") from error
        except AuthenticationError as error:
            raise SystemUnavailable(self._place.said, "it refused the login") from error
        except (RedisError, OSError) as error:
            # Their texts name addresses and commands, never a value.
            raise SystemUnavailable(self._place.said, str(error) or type(error).__name__) from error

    async def _client(self) -> Redis:
        if self._made is None:
            # Loading the library takes some tens of milliseconds: not on the thread that serves.
            made = await asyncio.to_thread(_client_of, self._place)
            if self._made is None:
                self._made = made
        return self._made


def _client_of(place: RedisPlace) -> Redis:
    from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as Closed

    timeout_s = place.timeout_ms / 1000
    options: dict[str, Any] = {
        "db": place.database,
        "username": place.username,
        "password": place.password,
        "socket_timeout": timeout_s,
        "max_connections": place.max_connections,
        "timeout": timeout_s,
        # A connection that was closed while it lay idle shows it only when used. Each of our commands may be sent twice.
        "retry": Retry(NoBackoff(), 1, supported_errors=(Closed,)),
    }
    if place.socket:
        options |= {"connection_class": UnixDomainSocketConnection, "path": place.socket}
    else:
        options |= {"host": place.host, "port": place.port, "socket_connect_timeout": timeout_s}
        if place.uses_tls:
            authorities = "".join(_text(path) for path in place.trusted_certificates) or None
            options |= {
                "connection_class": SSLConnection,
                "ssl_cert_reqs": "required" if place.verifies_tls else "none",
                "ssl_check_hostname": place.verifies_tls,
                "ssl_ca_data": authorities,
            }
            if place.server_name:
                options |= {"connection_class": _named(SSLConnection, place.server_name)}
    return Redis(connection_pool=BlockingConnectionPool(**options))


def _named(base: type[Any], server_name: str) -> type[Any]:
    """Connections whose certificate must carry another name than the one that is dialled."""

    class Named(base):  # type: ignore[misc]
        def _connection_arguments(self) -> Any:
            return {**super()._connection_arguments(), "server_hostname": server_name}

    return Named


def _text(path: str) -> str:
    from pathlib import Path

    return Path(path).read_text()
