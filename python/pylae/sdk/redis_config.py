# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say where a Redis server is?"""

from __future__ import annotations

from typing import Final

from pylae.schema import Record, deprecated_shorthand, field, kinds


class Redis(Record):
    """A Redis server and how it is reached."""

    host: str | None = field(kinds.string(rule="host"), doc="Name or address of the Redis server.")
    port: int = field(kinds.integer(between=(0, 65_535)), default=6_379, doc="Port of the Redis server.")
    timeout: int = field(
        kinds.integer(between=(0, 2_147_483_646)),
        default=2_000,
        unit="milliseconds",
        doc="How long connecting, sending and receiving may each take.",
    )
    username: str | None = field(kinds.string(), referenceable=True, doc="User to log in as.")
    password: str | None = field(kinds.string(len_min=0), referenceable=True, secret=True, doc="Password to log in with.")
    database: int = field(kinds.integer(), default=0, doc="Number of the Redis database.")
    ssl: bool = field(kinds.boolean(), default=False, doc="Speaks TLS to the Redis server.")
    ssl_verify: bool = field(kinds.boolean(), default=False, doc="Verifies the Redis server's certificate.")
    server_name: str | None = field(kinds.string(rule="sni"), doc="Name the Redis server's certificate must carry.")


_NAMES: Final = (
    ("host", kinds.string()),
    ("port", kinds.integer()),
    ("password", kinds.string(len_min=0)),
    ("username", kinds.string()),
    ("ssl", kinds.boolean()),
    ("ssl_verify", kinds.boolean()),
    ("server_name", kinds.string()),
    ("timeout", kinds.integer()),
    ("database", kinds.integer()),
)

SHORTHANDS: Final = tuple(
    deprecated_shorthand(f"redis_{name}", kind, f"redis.{name}", doc=f"Old name of `redis.{name}`.") for name, kind in _NAMES
)
"""The names that the fields had before they stood in a record of their own, for a field `redis`."""
