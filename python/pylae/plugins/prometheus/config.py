# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for prometheus?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    per_consumer: bool = field(kinds.boolean(), default=False, doc="Counts each Consumer's requests apart.")
    status_code_metrics: bool = field(kinds.boolean(), default=False, doc="Counts requests by status.")
    ai_metrics: bool = field(kinds.boolean(), default=False, doc="Counts requests, tokens and cost of language models.")
    latency_metrics: bool = field(kinds.boolean(), default=False, doc="Measures how long requests take, and where.")
    bandwidth_metrics: bool = field(kinds.boolean(), default=False, doc="Counts bytes received and sent.")
    upstream_health_metrics: bool = field(kinds.boolean(), default=False, doc="Shows the health of each Upstream's Targets.")
    wasm_metrics: bool = field(kinds.boolean(), default=False, doc="Shows what WebAssembly filters measure.")
