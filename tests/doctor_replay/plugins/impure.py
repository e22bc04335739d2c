# SPDX-License-Identifier: Apache-2.0
"""impure: must never be run again."""

from __future__ import annotations

from pylae.sdk import Exchange, Plugin


class Impure(Plugin):
    """Raises, so that running it shows."""

    name = "impure"
    priority = 500

    def access(self, exchange: Exchange, config: object) -> None:
        """Raises."""
        raise RuntimeError("an impure plugin was run")
