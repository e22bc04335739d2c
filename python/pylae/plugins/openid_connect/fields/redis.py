# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say where sessions are kept in Redis?"""

from __future__ import annotations

from typing import Any, Final

from pylae.plugins.openid_connect.fields.shapes import flag, port, text
from pylae.sdk import Record, field, kinds

LARGEST: Final = 2_147_483_646


def _milliseconds(doc: str) -> Any:
    return field(kinds.integer(between=(0, LARGEST)), default=2_000, unit="milliseconds", doc=doc)


class ClusterNode(Record):
    """One node of a Redis cluster."""

    ip: str = field(kinds.string(rule="host"), default="127.0.0.1", doc="Name or address of the node.")
    port: int = port("Port of the node.", default=6_379)


class SentinelNode(Record):
    """One Redis sentinel."""

    host: str = field(kinds.string(rule="host"), default="127.0.0.1", doc="Name or address of the sentinel.")
    port: int = port("Port of the sentinel.", default=6_379)


class Redis(Record):
    """A Redis server and how it is reached."""

    cluster_max_redirections: int = field(
        kinds.integer(), default=5, unit="redirections", doc="How often a cluster may send a command elsewhere."
    )
    cluster_nodes: list[ClusterNode] | None = field(
        kinds.array(kinds.record(ClusterNode), len_min=1), doc="Nodes of a cluster; using Redis Cluster is not supported."
    )
    connect_timeout: int = _milliseconds("How long connecting may take.")
    connection_is_proxied: bool = flag("Says that a proxy stands before Redis.")
    database: int = field(kinds.integer(), default=0, doc="Number of the Redis database.")
    host: str = field(kinds.string(rule="host"), default="127.0.0.1", doc="Name or address of the Redis server.")
    keepalive_backlog: int | None = field(
        kinds.integer(between=(0, LARGEST)),
        unit="commands",
        doc="How many may wait for one of the connections; others fail at once.",
    )
    keepalive_pool_size: int = field(
        kinds.integer(between=(1, LARGEST)), default=256, doc="How many connections each worker keeps at most."
    )
    password: str | None = field(kinds.string(len_min=0), referenceable=True, secret=True, doc="Password to log in with.")
    port: int = port("Port of the Redis server.", default=6_379)
    read_timeout: int = _milliseconds("How long an answer may take.")
    send_timeout: int = _milliseconds("How long sending may take.")
    sentinel_master: str | None = text("Name of the master to ask sentinels for; using sentinels is not supported.")
    sentinel_nodes: list[SentinelNode] | None = field(
        kinds.array(kinds.record(SentinelNode), len_min=1), doc="Sentinels to ask; using sentinels is not supported."
    )
    sentinel_password: str | None = field(
        kinds.string(len_min=0), referenceable=True, secret=True, doc="Password to log in to a sentinel with."
    )
    sentinel_role: str | None = text("Which server to ask a sentinel for.", one_of=("any", "master", "slave"))
    sentinel_username: str | None = text("User to log in to a sentinel as.", referenceable=True)
    server_name: str | None = field(kinds.string(rule="sni"), doc="Name the Redis server's certificate must carry.")
    ssl: bool = flag("Speaks TLS to the Redis server.")
    ssl_verify: bool = flag("Verifies the Redis server's certificate.")
    username: str | None = text("User to log in as.", referenceable=True)


class SessionRedis(Redis):
    """A Redis server that keeps sessions."""

    prefix: str | None = text("What the keys of sessions begin with.")
    socket: str | None = text("Path of a UNIX socket to reach the Redis server by.")
