# SPDX-License-Identifier: Apache-2.0
"""What becomes of a body that a filter changes, and of an answer whose filter fails?"""

from __future__ import annotations

from typing import Any

from pylae.sdk import Exchange, Plugin, Record, field, kinds

DEEDS = ["upper", "append", "raise", "rubbish", "raise_in_header"]


class ProbeFilter(Plugin):
    """Treats the body as its config says."""

    name = "probe-filter"
    version = "1.0.0"
    priority = 700

    class Config(Record):
        """What to do with the body."""

        does: str = field(kinds.string(one_of=DEEDS), default="upper", doc="What it does with each chunk.")

    def header_filter(self, exchange: Exchange, config: Config) -> None:
        """Fail here if told to."""
        if config.does == "raise_in_header":
            raise ValueError("the filter was told to raise")

    def body_filter(self, exchange: Exchange, config: Config, chunk: bytes, is_last: bool) -> Any:  # noqa: FBT001 - the host calls it so
        """Other bytes for the chunk."""
        if config.does == "raise":
            raise ValueError("the filter was told to raise")
        if config.does == "rubbish":
            return 42
        if config.does == "append":
            return chunk + b"!" if is_last else None
        return chunk.upper()
