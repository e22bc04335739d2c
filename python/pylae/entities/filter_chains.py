# SPDX-License-Identifier: Apache-2.0
"""What is a filter chain?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.entities import common
from pylae.schema import Entity, Record, at_least_one_of, custom, field, kinds, mutually_exclusive


def _wasm_is_enabled(row: Mapping[str, Any]) -> str | None:  # noqa: ARG001 - a check's signature
    return "wasm support is not enabled"


class Filter(Record):
    """One filter of a chain."""

    name: str = field(kinds.string(one_of=(), error="no such filter"), required=True, doc="Which filter it is.")
    enabled: bool = field(kinds.boolean(), required=True, default=True, doc="Whether it runs.")
    config: Any = field(
        kinds.json(
            json_schema={
                "default": {"$schema": "http://json-schema.org/draft-04/schema#", "type": ["string", "null"]},
                "namespace": "proxy-wasm-filters",
                "optional": True,
                "parent_subschema_key": "name",
            }
        ),
        required=False,
        doc="What the filter itself is told.",
    )


class FilterChain(Entity):
    """WebAssembly filters in the order in which they run; none can be stored, because this gateway runs none."""

    table = "filter_chains"
    endpoint_key = "name"
    cache_key = ("route", "service")
    admin_path_name = "filter-chains"

    id: str = field(common.uuid, doc="Identifies the filter chain.")
    name: str | None = field(common.utf8_name, doc="Names the filter chain in URLs of the Admin API.")
    enabled: bool = field(kinds.boolean(), required=True, default=True, doc="Whether it runs.")
    route: dict[str, str] | None = field(
        kinds.foreign("routes", on_delete="cascade"), default=None, unique=True, doc="Runs for requests of this Route."
    )
    service: dict[str, str] | None = field(
        kinds.foreign("services", on_delete="cascade"), default=None, unique=True, doc="Runs for requests to this Service."
    )
    filters: list[dict[str, Any]] = field(
        kinds.array(kinds.record(Filter), len_min=1), required=True, doc="The filters in their order."
    )
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    checks = (
        mutually_exclusive("service", "route"),
        at_least_one_of("service", "route"),
        custom("filters", rule=_wasm_is_enabled),
    )
