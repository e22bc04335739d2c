# SPDX-License-Identifier: Apache-2.0
"""What is a basic-auth credential?"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from typing import Any

from pylae.sdk import Entity, field, kinds


def hashed(password: str, consumer_id: str) -> str:
    """The form in which a password is kept: what Kong keeps, so that each reads the other's rows."""
    return hashlib.sha1(f"{password}{consumer_id}".encode(), usedforsecurity=False).hexdigest()


class BasicauthCredential(Entity):
    """A username and a password of a Consumer."""

    table = "basicauth_credentials"
    endpoint_key = "username"
    cache_key = ("username",)
    admin_path_name = "basic-auths"
    admin_nested_name = "basic-auth"

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the credential.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whose credential it is."
    )
    username: str = field(kinds.string(), required=True, unique=True, doc="Name the client sends.")
    password: str = field(kinds.string(), required=True, secret=True, doc="Password the client sends; only its hash is kept.")
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")

    @classmethod
    def transform(cls, row: dict[str, Any], given: Container[str] | None = None) -> None:
        """Keeps a hash of the password."""
        if given is None or "password" in given:
            row["password"] = hashed(row["password"], row["consumer"]["id"])
