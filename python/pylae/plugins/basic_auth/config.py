# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for basic-auth?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the credentials before the request goes upstream."
    )
    realm: str = field(kinds.string(), required=True, default="service", doc="The protection space named in `WWW-Authenticate`.")
