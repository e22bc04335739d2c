# SPDX-License-Identifier: Apache-2.0
"""What is a workspace?"""

from __future__ import annotations

from typing import Any, Final

from pylae.entities import common
from pylae.schema import Entity, Record, field, kinds

_TABLES: Final = (
    *("workspaces", "consumers", "certificates", "services", "routes", "snis", "upstreams", "targets", "plugins", "tags"),
    *("ca_certificates", "clustering_data_planes", "parameters", "vaults", "key_sets", "keys", "filter_chains"),
)


class Nothing(Record):
    """Nothing yet."""


class Workspace(Entity):
    """A part of the configuration with names of its own; there is one, and it is never shown."""

    table = "workspaces"
    endpoint_key = "name"
    cache_key = ("name",)
    workspaceable = False
    admin_generated = False
    in_declarative_export = False

    id: str = field(common.uuid, doc="Identifies the workspace.")
    name: str = field(common.utf8_name.but(not_one_of=_TABLES), required=True, unique=True, doc="Names the workspace.")
    comment: str | None = field(kinds.string(), doc="What it is for, in the words of whoever made it.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    meta: dict[str, Any] = field(kinds.record(Nothing), doc="What a user interface keeps with it.")
    config: dict[str, Any] = field(kinds.record(Nothing), doc="What is set for it alone.")
