# SPDX-License-Identifier: Apache-2.0
"""latecomer: impure, and after all others."""

from __future__ import annotations

from pylae.sdk import Exchange, Plugin


class Latecomer(Plugin):
    """Raises, so that running it shows."""

    name = "latecomer"
    priority = -5

    def access(self, exchange: Exchange, config: object) -> None:
        """Raises."""
        raise RuntimeError("an impure plugin was run")
