# SPDX-License-Identifier: Apache-2.0
"""What are applications, codes and tokens?"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pylae.plugins.oauth2.hashes import hashed, is_hashed
from pylae.schema.rules import parse_url
from pylae.sdk import Entity, field, kinds


def redirect_uri(uri: str) -> str | None:
    """Users are sent back to a whole address; the fragment is where answers go."""
    parsed = parse_url(uri)
    if parsed.host is None or parsed.scheme is None:
        return f"cannot parse '{uri}'"
    return f"fragment not allowed in '{uri}'" if "#" in uri else None


class Oauth2Credential(Entity):
    """An application that may ask for tokens for a Consumer."""

    table = "oauth2_credentials"
    endpoint_key = "client_id"
    cache_key = ("client_id",)
    admin_path_name = "oauth2"

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the application.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whose application it is."
    )
    name: str = field(kinds.string(), required=True, doc="Name of the application.")
    client_id: str = field(kinds.string(), unique=True, auto=True, doc="Public id of the application; random when none is given.")
    client_secret: str = field(
        kinds.string(), auto=True, secret=True, doc="Secret of the application; random when none is given."
    )
    hash_secret: bool = field(kinds.boolean(), required=True, default=False, doc="Keeps only a hash of the secret.")
    redirect_uris: list[str] | None = field(
        kinds.array(kinds.string(rule=redirect_uri)), doc="Addresses users may be sent back to."
    )
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")
    client_type: str = field(
        kinds.string(one_of=("confidential", "public")),
        required=True,
        default="confidential",
        doc="Whether the application can keep a secret.",
    )

    @classmethod
    def transform(cls, row: dict[str, Any], given: Container[str] | None = None) -> None:
        """Keeps a hash of the secret, when told so."""
        is_new = given is None or "client_secret" in given or "hash_secret" in given
        if is_new and row["hash_secret"] and row["client_secret"] and not is_hashed(row["client_secret"]):
            row["client_secret"] = hashed(row["client_secret"])


class Oauth2AuthorizationCode(Entity):
    """A code that an application exchanges for a token."""

    table = "oauth2_authorization_codes"
    ttl = True
    admin_generated = False
    in_declarative_export = False

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the code.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    service: dict[str, str] | None = field(
        kinds.foreign("services", on_delete="cascade"), default=None, doc="Service the code is for; none for all."
    )
    credential: dict[str, str] = field(
        kinds.foreign("oauth2_credentials", on_delete="cascade"), required=True, doc="Application the code was given to."
    )
    code: str = field(
        kinds.string(), unique=True, auto=True, secret=True, encrypted=False, doc="The code; random when none is given."
    )
    authenticated_userid: str | None = field(kinds.string(), doc="User who gave leave.")
    scope: str | None = field(kinds.string(), doc="Scopes leave was given for.")
    challenge: str | None = field(kinds.string(), doc="PKCE challenge the verifier must match.")
    challenge_method: str | None = field(kinds.string(one_of=("S256",)), doc="How the PKCE challenge is made from the verifier.")
    plugin: dict[str, str] | None = field(
        kinds.foreign("plugins", on_delete="cascade"), default=None, doc="Plugin that gave the code."
    )


class Oauth2Token(Entity):
    """An access token and what it may be used for."""

    table = "oauth2_tokens"
    endpoint_key = "access_token"
    cache_key = ("access_token",)
    ttl = True

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the token.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    service: dict[str, str] | None = field(
        kinds.foreign("services", on_delete="cascade"), default=None, doc="Service the token is for; none for all."
    )
    credential: dict[str, str] = field(
        kinds.foreign("oauth2_credentials", on_delete="cascade"), required=True, doc="Application the token was given to."
    )
    token_type: str = field(kinds.string(one_of=("bearer",)), required=True, default="bearer", doc="How the token is used.")
    expires_in: int = field(kinds.integer(), required=True, unit="seconds", doc="How long the access token lasts; 0 for ever.")
    access_token: str = field(
        kinds.string(), unique=True, auto=True, secret=True, encrypted=False, doc="The access token; random when none is given."
    )
    refresh_token: str | None = field(
        kinds.string(), unique=True, secret=True, encrypted=False, doc="Token a new access token is given for."
    )
    authenticated_userid: str | None = field(kinds.string(), doc="User the application acts for.")
    scope: str | None = field(kinds.string(), doc="Scopes the token is good for.")
