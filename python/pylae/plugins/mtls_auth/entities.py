# SPDX-License-Identifier: Apache-2.0
"""Which certificates stand for which Consumer, where their names do not say so themselves?"""

from __future__ import annotations

from typing import Any

from pylae.sdk import Entity, field, kinds


def mapping_of(authority_id: str | None, subject_name: str) -> str:
    """What a mapping is looked up by: `*` stands for any authority."""
    return f"{authority_id or '*'} {subject_name}"


class MtlsAuthCredential(Entity):
    """A name in certificates that stands for a Consumer."""

    table = "mtls_auth_credentials"
    admin_path_name = "mtls-auths"
    admin_nested_name = "mtls-auth"

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the mapping.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whom the name stands for."
    )
    subject_name: str = field(
        kinds.string(), required=True, doc="A Subject Alternative Name, or the Common Name of a certificate that has none."
    )
    ca_certificate: dict[str, str] | None = field(
        kinds.foreign("ca_certificates", on_delete="cascade"),
        doc="The authority that must have issued it; any of the plugin's when unset.",
    )
    mapping: str | None = field(kinds.string(), unique=True, doc="Authority and name in one, unique; computed.")
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")

    @classmethod
    def complete(cls, row: dict[str, Any]) -> None:
        """Computes what it is looked up by."""
        authority = row.get("ca_certificate")
        row["mapping"] = mapping_of(authority["id"] if authority else None, row["subject_name"])
