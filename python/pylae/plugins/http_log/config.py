# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for http-log?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pylae.schema import Pattern
from pylae.sdk import Record, field, kinds
from pylae.sdk.lua_code import CODE_BY_NAME
from pylae.sdk.queue_config import Queue


def _never(name: str, lua: str) -> tuple[Pattern, str]:
    """A header that is made here and may not be given."""
    return Pattern(lua, lua.replace("%-", r"\-")), f"cannot contain '{name}' header"


_RESERVED_HEADERS: Final = (
    _never("Host", "^[Hh][Oo][Ss][Tt]$"),
    _never("Content-Length", "^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Ll][Ee][nn][Gg][Tt][Hh]$"),
    _never("Content-Type", "^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Tt][Yy][Pp][Ee]$"),
)


def _judge(config: Mapping[str, Any]) -> str | None:
    """Credentials may be given in one place only."""
    headers = config.get("headers") or {}
    endpoint = config.get("http_endpoint") or ""
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as error:
        return f"invalid http_endpoint: {error}"
    if any(not value.isascii() for value in headers.values() if isinstance(value, str)):
        return "header values must be ASCII"
    if any(name.lower() == "authorization" for name in headers) and parts.username is not None:
        return "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed"
    return None


class Config(Record):
    """Where entries go and how."""

    rule = _judge

    http_endpoint: str = field(
        kinds.string(rule="url"),
        required=True,
        secret=True,
        referenceable=True,
        doc="URL entries are sent to; user info becomes `Authorization`.",
    )
    method: str = field(kinds.string(one_of=("POST", "PUT", "PATCH")), default="POST", doc="Method entries are sent with.")
    content_type: str = field(
        kinds.string(one_of=("application/json", "application/json; charset=utf-8")),
        default="application/json",
        doc="Content type entries are sent with.",
    )
    timeout: float = field(kinds.number(), default=10_000, unit="milliseconds", doc="How long one request may take.")
    keepalive: float = field(
        kinds.number(),
        default=60_000,
        unit="milliseconds",
        doc="How long an idle connection is kept for the next request.",
    )
    retry_count: int | None = field(kinds.integer(), deprecated="4.0", doc="Has no effect any more.")
    queue_size: int | None = field(kinds.integer(), deprecated="4.0", doc="Old name of `queue.max_batch_size`.")
    flush_timeout: float | None = field(
        kinds.number(), unit="seconds", deprecated="4.0", doc="Old name of `queue.max_coalescing_delay`."
    )
    headers: dict[str, str] | None = field(
        kinds.map_of(kinds.string(match_none=_RESERVED_HEADERS, rule="header_name"), kinds.string(referenceable=True)),
        doc="Headers sent along.",
    )
    queue: Queue = field(kinds.record(Queue), required=True, doc="How entries wait and are sent again.")
    custom_fields_by_lua: dict[str, str] | None = field(
        CODE_BY_NAME,
        doc="Lua code that computes further fields of an entry.",
    )
