# SPDX-License-Identifier: Apache-2.0
"""What would workers do with a request, and why? Read from what they are sent, by the code that they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from pylae._core import Configuration
from pylae.control.feed import Feed, Version
from pylae.sdk.plugin import PHASES, Plugin

NEAREST: Final = 5
"""Routes that do not match, of which is told what is missing."""


class Configurations:
    """Reads configurations as workers do.

    Args:
        feed: what workers are sent now; None while there is nothing.
        plugins: those this gateway has, by name.
        router_flavor: the setting.
        router_ranking: the setting.

    Attributes:
        pure: names of plugins that look at nothing but a request and their configuration.
    """

    def __init__(
        self, feed: Callable[[], Feed | None], plugins: Mapping[str, type[Plugin]], router_flavor: str, router_ranking: str
    ) -> None:
        self._feed = feed
        self.pure = frozenset(name for name, plugin in plugins.items() if plugin.is_pure and not plugin.authenticates)
        self._plugins = [_definition_of(plugin) for plugin in plugins.values()]
        self._router_flavor = router_flavor
        self._router_ranking = router_ranking
        self._reading = asyncio.Lock()
        self._read: tuple[Version, Configuration] | None = None

    def __repr__(self) -> str:
        return f"<configurations {None if self._read is None else self._read[1]!r}>"

    async def current(self) -> Configuration | None:
        """The one that workers have, or are being sent; None while there is none.

        It is read in a thread when it is asked for first, and kept until one of its rows changes.
        """
        # One at a time: each takes as much memory as a worker's.
        async with self._reading:
            feed = self._feed()
            if feed is None:
                self._read = None
                return None
            if self._read is None or not feed.is_as_at(self._read[0]):
                self._read = None
                # Made here, of rows that change on this thread alone.
                version, message = feed.version, feed.since(None)
                self._read = version, await asyncio.to_thread(self.of, message)
            return self._read[1]

    def of(self, message: bytes) -> Configuration:
        """The one that a message to a worker holds; any thread may ask."""
        return Configuration(
            message, router_flavor=self._router_flavor, router_ranking=self._router_ranking, plugins=self._plugins
        )


def _definition_of(plugin: type[Plugin]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "priority": plugin.priority,
        "phases": [phase for phase in PHASES if hasattr(plugin, phase)],
        "reads_body": plugin.reads_body,
        "authenticates": plugin.authenticates,
    }
