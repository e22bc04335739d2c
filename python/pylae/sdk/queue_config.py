# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say how entries wait before they are sent elsewhere?"""

from __future__ import annotations

from pylae.schema import Record, field, kinds


class Queue(Record):
    """How entries wait, and how often sending is tried."""

    max_batch_size: int = field(kinds.integer(between=(1, 1_000_000)), default=1, doc="Entries sent in one request at most.")
    max_coalescing_delay: float = field(
        kinds.number(between=(0, 3_600)),
        default=1,
        unit="seconds",
        doc="How long an entry waits for its batch to fill.",
    )
    max_entries: int = field(
        kinds.integer(between=(1, 1_000_000)), default=10_000, unit="entries", doc="Entries held at most; the oldest give way."
    )
    max_bytes: int | None = field(kinds.integer(), unit="bytes", doc="Bytes held at most; the oldest entries give way.")
    max_retry_time: float = field(
        kinds.number(), default=60, unit="seconds", doc="How long sending a batch is tried before it is lost."
    )
    initial_retry_delay: float = field(
        kinds.number(between=(0.001, 1_000_000)),
        default=0.01,
        unit="seconds",
        doc="Pause after the first failure; it doubles with each.",
    )
    max_retry_delay: float = field(
        kinds.number(between=(0.001, 1_000_000)), default=60, unit="seconds", doc="Longest pause between tries."
    )
    concurrency_limit: int = field(
        kinds.integer(one_of=(-1, 1)), default=1, doc="Requests under way at once: 1, or -1 for as many as there are."
    )
