# SPDX-License-Identifier: Apache-2.0
"""Why did a recorded request get its Route, asked so that no line to a worker has to wait?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pylae.control.configuration import NEAREST, Configurations
from pylae.control.described import Undescribed, of_record


class ExplainedRoutes:
    """Asks the configuration that workers have; it is read in another thread, and kept until it changes.

    Args:
        configurations: read what workers are sent.
    """

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations

    def __repr__(self) -> str:
        return f"<explained routes {self._configurations!r}>"

    async def explain(self, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the router says of a request; None: there is nothing to ask, or the record does not say enough."""
        try:
            described = of_record(record)
        except Undescribed:
            return None
        configuration = await self._configurations.current()
        if configuration is None:
            return None
        try:
            return await asyncio.to_thread(configuration.explain, described, nearest=NEAREST)
        except ValueError:
            return None
