# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for oauth2-introspection?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    introspection_url: str = field(kinds.string(rule="url"), required=True, doc="Where the authorization server is asked.")
    ttl: float = field(
        kinds.number(), default=30, unit="seconds", doc="How long an answer is good for; 0 for as long as the token lasts."
    )
    token_type_hint: str | None = field(kinds.string(), doc="What the server is told that the token is: `access_token`.")
    authorization_value: str = field(
        kinds.string(), required=True, referenceable=True, secret=True, doc="`Authorization` header sent to the server."
    )
    timeout: int = field(kinds.integer(), default=10_000, unit="milliseconds", doc="How long the server may take to answer.")
    keepalive: int = field(
        kinds.integer(), default=60_000, unit="milliseconds", doc="How long a connection to the server may lie idle."
    )
    introspect_request: bool = field(
        kinds.boolean(), required=True, default=False, doc="Tells the server method and path of the request."
    )
    hide_credentials: bool = field(kinds.boolean(), default=False, doc="Removes the token before the request goes upstream.")
    run_on_preflight: bool = field(
        kinds.boolean(), required=True, default=True, doc="Asks for a token on OPTIONS requests as well."
    )
    anonymous: str | None = field(
        kinds.string(len_min=0),
        default="",
        doc="Id or username of the Consumer to take a client for that cannot be authenticated; empty for none.",
    )
    consumer_by: str = field(
        kinds.string(one_of=("username", "client_id")),
        required=True,
        default="username",
        doc="What names the Consumer: `username` its username, `client_id` its custom id.",
    )
    custom_introspection_headers: dict[str, str] = field(
        kinds.map_of(kinds.string(), kinds.string()), required=True, default={}, doc="Further headers sent to the server."
    )
    custom_claims_forward: list[str] = field(
        kinds.set_of(kinds.string()), required=True, default=[], doc="Claims the upstream gets as `X-Credential-<claim>`."
    )
