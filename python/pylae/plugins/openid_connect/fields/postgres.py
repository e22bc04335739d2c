# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say where sessions are kept in PostgreSQL?"""

from __future__ import annotations

from pylae.plugins.openid_connect.fields.shapes import flag, port, text
from pylae.sdk import Record, field, kinds


class SessionPostgres(Record):
    """A PostgreSQL server that keeps sessions, in a table `pylae_sessions` that is made when it is missing."""

    host: str = field(kinds.string(rule="host"), default="127.0.0.1", doc="Name or address of the PostgreSQL server.")
    port: int = port("Port of the PostgreSQL server.", default=5_432)
    user: str = text("User to log in as.", default="pylae", referenceable=True)
    password: str | None = field(kinds.string(len_min=0), referenceable=True, secret=True, doc="Password to log in with.")
    database: str = text("Name of the database.", default="pylae")
    ssl: bool = flag("Speaks TLS to the PostgreSQL server.")
    ssl_verify: bool = flag("Verifies the PostgreSQL server's certificate.", default=True)
    timeout: int = field(
        kinds.integer(between=(1, 2_147_483_646)),
        default=5_000,
        unit="milliseconds",
        doc="How long connecting and an answer may take together.",
    )
    pool_size: int = field(kinds.integer(between=(1, 1_000)), default=4, doc="How many connections each worker keeps at most.")
