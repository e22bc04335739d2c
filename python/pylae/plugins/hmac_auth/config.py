# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for hmac-auth?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the signature before the request goes upstream."
    )
    clock_skew: float = field(
        kinds.number(gt=0), default=300, unit="seconds", doc="How far the request's date may be from this node's clock."
    )
    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    validate_request_body: bool = field(
        kinds.boolean(), required=True, default=False, doc="Checks the body against the request's `Digest` header."
    )
    enforce_headers: list[str] = field(kinds.array(kinds.string()), default=[], doc="Headers a client must have signed.")
    algorithms: list[str] = field(
        kinds.array(kinds.string(one_of=("hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"))),
        default=["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"],
        doc="Signature algorithms that are accepted.",
    )
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
