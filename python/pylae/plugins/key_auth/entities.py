# SPDX-License-Identifier: Apache-2.0
"""What is a key-auth credential?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class KeyauthCredential(Entity):
    """An API key of a Consumer."""

    table = "keyauth_credentials"
    endpoint_key = "key"
    cache_key = ("key",)
    ttl = True
    admin_path_name = "key-auths"
    admin_nested_name = "key-auth"

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the credential.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whose key it is.")
    key: str = field(
        kinds.string(), unique=True, auto=True, secret=True, encrypted=False, doc="The key; random when none is given."
    )
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")
