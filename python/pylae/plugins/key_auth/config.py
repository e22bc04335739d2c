# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for key-auth?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    key_names: list[str] = field(
        kinds.array(kinds.string(rule="header_name")),
        required=True,
        default=["apikey"],
        doc="Header, argument and body field names a key is looked for under, in order.",
    )
    hide_credentials: bool = field(
        kinds.boolean(), required=True, default=False, doc="Removes the key before the request goes upstream."
    )
    anonymous: str | None = field(
        kinds.string(), doc="Id or username of the Consumer to take a client for that cannot be authenticated."
    )
    key_in_header: bool = field(kinds.boolean(), required=True, default=True, doc="Looks for the key in headers.")
    key_in_query: bool = field(kinds.boolean(), required=True, default=True, doc="Looks for the key in the query.")
    key_in_body: bool = field(
        kinds.boolean(), required=True, default=False, doc="Looks for the key in a form, multipart or JSON body."
    )
    run_on_preflight: bool = field(
        kinds.boolean(), required=True, default=True, doc="Asks for a key on OPTIONS requests as well."
    )
    realm: str | None = field(kinds.string(), doc="The protection space named in `WWW-Authenticate`.")
