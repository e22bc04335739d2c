# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for jwt?"""

from __future__ import annotations

from pylae.schema import conditional
from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    plugin_checks = (conditional("config.maximum_expiration", {"gt": 0}, "config.claims_to_verify", {"contains": "exp"}),)

    uri_param_names: list[str] = field(
        kinds.set_of(kinds.string()), default=["jwt"], doc="Query arguments a token is looked for in."
    )
    cookie_names: list[str] = field(kinds.set_of(kinds.string()), default=[], doc="Cookies a token is looked for in.")
    key_claim_name: str = field(kinds.string(), default="iss", doc="Claim, or token header, that holds the credential's key.")
    secret_is_base64: bool = field(
        kinds.boolean(), required=True, default=False, doc="Decodes a credential's secret from base64 before it verifies with it."
    )
    claims_to_verify: list[str] | None = field(
        kinds.set_of(kinds.string(one_of=("exp", "nbf"))),
        doc="Times in the token that are checked: its end (`exp`), its start (`nbf`).",
    )
    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    run_on_preflight: bool = field(
        kinds.boolean(), required=True, default=True, doc="Asks for a token on OPTIONS requests as well."
    )
    maximum_expiration: float = field(
        kinds.number(between=(0, 31_536_000)),
        default=0,
        unit="seconds",
        doc="How far in the future a token's end may be; 0 for any.",
    )
    header_names: list[str] = field(
        kinds.set_of(kinds.string()), default=["authorization"], doc="Headers a bearer token is looked for in."
    )
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
