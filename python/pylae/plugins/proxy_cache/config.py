# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for proxy-cache?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Memory(Record):
    """How the strategy `memory` keeps responses."""

    dictionary_name: str = field(
        kinds.string(), required=True, default="kong_db_cache", doc="Shared memory zone that responses are kept in."
    )


class ResponseHeaders(Record):
    """Which headers tell clients about the cache."""

    age: bool = field(kinds.boolean(), default=True, doc="Tells clients the age of a kept response in `Age`.")
    vars()["X-Cache-Status"] = field(
        kinds.boolean(), default=True, doc="Tells clients in `X-Cache-Status` whether the cache was used."
    )
    vars()["X-Cache-Key"] = field(
        kinds.boolean(), default=True, doc="Tells clients the key of the cached response in `X-Cache-Key`."
    )


class Config(Record):
    """What an administrator may set."""

    response_code: list[int] = field(
        kinds.array(kinds.integer(between=(100, 900)), len_min=1),
        required=True,
        default=[200, 301, 404],
        doc="Statuses of responses that may be kept.",
    )
    request_method: list[str] = field(
        kinds.array(kinds.string(one_of=("HEAD", "GET", "POST", "PATCH", "PUT"))),
        required=True,
        default=["GET", "HEAD"],
        doc="Methods of requests that may be answered from the cache.",
    )
    content_type: list[str] = field(
        kinds.array(kinds.string()),
        required=True,
        default=["text/plain", "application/json"],
        doc="Content types of responses that may be kept; parameters must match as well.",
    )
    cache_ttl: int = field(kinds.integer(gt=0), default=300, unit="seconds", doc="How long a kept response is fresh.")
    strategy: str = field(kinds.string(one_of=("memory",)), required=True, doc="Where responses are kept.")
    cache_control: bool = field(
        kinds.boolean(), required=True, default=False, doc="Obeys `Cache-Control` of requests and responses."
    )
    ignore_uri_case: bool = field(
        kinds.boolean(), default=False, doc="Takes paths that differ only in upper and lower case for the same."
    )
    storage_ttl: int | None = field(
        kinds.integer(), unit="seconds", doc="How long a response stays in the store, whatever its freshness."
    )
    memory: Memory = field(kinds.record(Memory), required=True, doc="How the strategy `memory` keeps responses.")
    vary_query_params: list[str] | None = field(
        kinds.array(kinds.string()), doc="Query arguments that tell cached responses apart; all of them if unset."
    )
    vary_headers: list[str] | None = field(
        kinds.array(kinds.string()), doc="Request headers that tell cached responses apart; none if unset."
    )
    response_headers: ResponseHeaders = field(
        kinds.record(ResponseHeaders), required=True, doc="Which headers tell clients about the cache."
    )
