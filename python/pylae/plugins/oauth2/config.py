# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for oauth2?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds

FLOWS: Final = ("enable_authorization_code", "enable_implicit_grant", "enable_client_credentials", "enable_password_grant")


def _judge_flows(config: Mapping[str, Any]) -> str | None:
    """A server that gives out no tokens is a mistake."""
    if any(config.get(flow) for flow in FLOWS):
        return None
    return f"at least one of these fields must be true: {', '.join(FLOWS)}"


class Config(Record):
    """What an administrator may set."""

    rule = _judge_flows
    checks = (conditional("mandatory_scope", {"eq": True}, "scopes", {"required": True}),)

    scopes: list[str] | None = field(kinds.array(kinds.string()), doc="Scopes clients may ask for.")
    mandatory_scope: bool = field(
        kinds.boolean(), required=True, default=False, doc="Refuses to give a token for which no scope is asked."
    )
    provision_key: str = field(
        kinds.string(),
        required=True,
        unique=True,
        auto=True,
        secret=True,
        doc="Key your own login application proves itself with.",
    )
    token_expiration: float = field(
        kinds.number(), required=True, default=7200, unit="seconds", doc="How long an access token lasts; 0 for ever."
    )
    enable_authorization_code: bool = field(
        kinds.boolean(), required=True, default=False, doc="Offers the authorization code grant."
    )
    enable_implicit_grant: bool = field(kinds.boolean(), required=True, default=False, doc="Offers the implicit grant.")
    enable_client_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Offers the client credentials grant."
    )
    enable_password_grant: bool = field(
        kinds.boolean(), required=True, default=False, doc="Offers the resource owner password grant."
    )
    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the token before the request goes upstream."
    )
    accept_http_if_already_terminated: bool = field(
        kinds.boolean(),
        required=True,
        default=False,
        doc="Takes plain HTTP for HTTPS when a trusted proxy says that it ended TLS.",
    )
    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    global_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Accepts tokens that other Services' plugins with this set have given."
    )
    auth_header_name: str = field(kinds.string(), default="authorization", doc="Header a token is looked for in.")
    refresh_token_ttl: float = field(
        kinds.number(between=(0, 100_000_000)),
        required=True,
        default=1_209_600,
        unit="seconds",
        doc="How long a refresh token lasts; 0 for ever.",
    )
    reuse_refresh_token: bool = field(
        kinds.boolean(), required=True, default=False, doc="Keeps the refresh token when it is used."
    )
    pkce: str = field(
        kinds.string(one_of=("none", "lax", "strict")),
        default="lax",
        doc="Which clients must use PKCE: none, public ones (`lax`) or all (`strict`).",
    )
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
