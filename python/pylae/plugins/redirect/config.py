# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for redirect?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    status_code: int = field(kinds.integer(between=(100, 599)), required=True, default=301, doc="Status of the redirect.")
    location: str = field(kinds.string(rule="url"), required=True, doc="URL that clients are sent to.")
    keep_incoming_path: bool = field(
        kinds.boolean(), default=False, doc="Puts the request's path and query in place of those of `location`."
    )
