# SPDX-License-Identifier: Apache-2.0
"""How does an administrator give Lua code?

The code is kept as written. This version has no Lua to look at it with: a plugin that would have to run it refuses it
or refuses the request, and none takes it for something else.
"""

from __future__ import annotations

from typing import Final

from pylae.schema import Record, at_least_one_of, field, kinds

CODE_BY_NAME: Final = kinds.map_of(kinds.string(len_min=1), kinds.string(len_min=1))
"""Names of values, each with the code that computes it."""
CHUNKS: Final = kinds.array(kinds.string())
"""Chunks of code that run one after the other."""


class ChunksByPhase(Record):
    """Chunks of code for each phase of a request."""

    plugin_checks = (
        at_least_one_of(
            "config.certificate", "config.rewrite", "config.access", "config.header_filter", "config.body_filter", "config.log"
        ),
    )

    certificate: list[str] = field(
        CHUNKS, required=True, default=[], doc="Lua chunks run in order while the TLS certificate is chosen."
    )
    rewrite: list[str] = field(CHUNKS, required=True, default=[], doc="Lua chunks run in order before a Route is looked for.")
    access: list[str] = field(CHUNKS, required=True, default=[], doc="Lua chunks run in order before the request goes upstream.")
    header_filter: list[str] = field(
        CHUNKS, required=True, default=[], doc="Lua chunks run in order when the response headers are there."
    )
    body_filter: list[str] = field(
        CHUNKS, required=True, default=[], doc="Lua chunks run in order for each piece of the response body."
    )
    log: list[str] = field(CHUNKS, required=True, default=[], doc="Lua chunks run in order after the response was sent.")
