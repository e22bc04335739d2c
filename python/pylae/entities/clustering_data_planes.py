# SPDX-License-Identifier: Apache-2.0
"""What is a data plane?"""

from __future__ import annotations

from typing import Any, Final

from pylae.entities import common
from pylae.schema import Entity, Record, field, kinds

_SYNC_STATUSES: Final = (
    *("unknown", "normal", "kong_version_incompatible", "plugin_set_incompatible"),
    *("plugin_version_incompatible", "filter_set_incompatible"),
)


class CertDetails(Record):
    """The certificate by which a data plane is known."""

    expiry_timestamp: float | None = field(
        kinds.number(timestamp=True), required=False, unit="seconds since the epoch", doc="When it is no longer valid."
    )


class ClusteringDataPlane(Entity):
    """A node that gets its configuration from this one."""

    table = "clustering_data_planes"
    ttl = True
    workspaceable = False
    admin_path_name = "clustering/data-planes"
    admin_generated = False
    in_declarative_export = False

    id: str = field(common.uuid, required=True, doc="Identifies the node.")
    last_seen: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last heard of.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When the row was last written.")
    ip: str = field(common.ip, required=True, doc="Where it connects from.")
    config_hash: str | None = field(kinds.string(len_eq=32), doc="Names the configuration that it works with.")
    hostname: str = field(common.host, required=True, doc="What it calls itself.")
    version: str | None = field(common.semantic_version, doc="Which version it runs.")
    sync_status: str = field(
        kinds.string(one_of=_SYNC_STATUSES), required=True, default="unknown", doc="Whether it can take the configuration."
    )
    labels: dict[str, str] | None = field(
        kinds.map_of(kinds.string(), kinds.string()), doc="Words on the node, in the words of whoever runs it."
    )
    cert_details: dict[str, Any] = field(kinds.record(CertDetails), doc="The certificate by which it is known.")
    rpc_capabilities: list[str] | None = field(kinds.set_of(kinds.string()), doc="What can be asked of it.")
