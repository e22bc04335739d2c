# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for correlation-id?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    header_name: str = field(kinds.string(), default="Kong-Request-ID", doc="Header the id is in; one the client sends is kept.")
    generator: str = field(
        kinds.string(one_of=("uuid", "uuid#counter", "tracker")), required=True, default="uuid#counter", doc="How an id is made."
    )
    echo_downstream: bool = field(kinds.boolean(), required=True, default=False, doc="Tells the client the id as well.")
