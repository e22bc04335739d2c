# SPDX-License-Identifier: Apache-2.0
"""What is an hmac-auth credential?"""

from __future__ import annotations

from pylae.sdk import Entity, field, kinds


class HmacauthCredential(Entity):
    """A username and a secret of a Consumer, who signs with it."""

    table = "hmacauth_credentials"
    endpoint_key = "username"
    cache_key = ("username",)
    admin_path_name = "hmac-auths"
    admin_nested_name = "hmac-auth"

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the credential.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whose credential it is."
    )
    username: str = field(kinds.string(), required=True, unique=True, doc="Name the client signs as.")
    secret: str = field(
        kinds.string(), auto=True, secret=True, encrypted=False, doc="Secret the client signs with; random when none is given."
    )
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")
