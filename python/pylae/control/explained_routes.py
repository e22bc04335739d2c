# SPDX-License-Identifier: Apache-2.0
"""Why did a recorded request get its Route, asked so that no line to a worker has to wait?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pylae._core import Configuration
from pylae.control.configuration import NEAREST, Configurations
from pylae.control.described import Undescribed, of_record
from pylae.control.feed import Feed, Version


class ExplainedRoutes:
    """Asks the configuration that workers have; it is read in another thread, and kept until it changes.

    Args:
        configurations: read what workers are sent.
        feed: what workers are sent now; None while there is nothing.
    """

    def __init__(self, configurations: Configurations, feed: Callable[[], Feed | None]) -> None:
        self._configurations = configurations
        self._feed = feed
        self._read: tuple[Version, Configuration] | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<explained routes {None if self._read is None else self._read[0]}>"

    async def explain(self, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the router says of a request; None: there is nothing to ask, or the record does not say enough."""
        try:
            described = of_record(record)
        except Undescribed:
            return None
        configuration = await self._configuration()
        if configuration is None:
            return None
        try:
            return await asyncio.to_thread(configuration.explain, described, nearest=NEAREST)
        except ValueError:
            return None

    async def _configuration(self) -> Configuration | None:
        # One at a time: each takes as much memory as a worker's.
        async with self._lock:
            feed = self._feed()
            if feed is None:
                return None
            if self._read is None or self._read[0] != feed.version:
                self._read = None
                # On the loop, where the feed changes.
                version, message = feed.version, feed.since(None)
                self._read = version, await asyncio.to_thread(self._configurations.of, message)
            return self._read[1]
