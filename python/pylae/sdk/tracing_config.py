# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say which tracing headers are read, removed and sent on?"""

from __future__ import annotations

from typing import Any, Final

from pylae.schema import Record, field, kinds

EXTRACTED: Final = ("datadog", "aws", "gcp", "instana", "w3c", "b3", "jaeger", "ot")
"""Forms of tracing headers that can be read."""
WRITTEN: Final = ("datadog", "aws", "gcp", "instana", "w3c", "b3", "b3-single", "jaeger", "ot")
"""Forms that can be sent."""
TIMEOUT_MS: Final = (0, 2_147_483_646)


class Propagation(Record):
    """Which tracing headers are read, removed and sent on."""

    extract: list[str] | None = field(
        kinds.array(kinds.string(one_of=EXTRACTED)),
        doc="Forms that are looked for in a request, in order; the first found is used.",
    )
    clear: list[str] | None = field(
        kinds.array(kinds.string(rule="header_name")), doc="Headers that are removed once they have been read."
    )
    inject: list[str] | None = field(
        kinds.array(kinds.string(one_of=("preserve", *WRITTEN))),
        doc="Forms that are sent upstream; `preserve` stands for the form that came in.",
    )
    default_format: str = field(
        kinds.string(one_of=WRITTEN), required=True, doc="Form that `preserve` stands for when none came in."
    )


def connect_timeout(default_ms: int) -> Any:
    """How long a plugin may wait for a connection to its collector."""
    kind = kinds.integer(between=TIMEOUT_MS)
    return field(kind, default=default_ms, unit="milliseconds", doc="How long connecting to the collector may take.")


def send_timeout() -> Any:
    """How long a plugin may wait to write to its collector."""
    kind = kinds.integer(between=TIMEOUT_MS)
    return field(kind, default=5000, unit="milliseconds", doc="Longest pause between two writes to the collector.")


def read_timeout() -> Any:
    """How long a plugin may wait to read from its collector."""
    kind = kinds.integer(between=TIMEOUT_MS)
    return field(kind, default=5000, unit="milliseconds", doc="Longest pause between two reads from the collector.")
