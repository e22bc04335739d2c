# SPDX-License-Identifier: Apache-2.0
"""What would workers do with a request, and why? Read from what they are sent, by the code that they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pylae._core import Configuration
from pylae.control.described import Undescribed, of_record
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
    """

    def __init__(
        self, feed: Callable[[], Feed | None], plugins: Mapping[str, type[Plugin]], router_flavor: str, router_ranking: str
    ) -> None:
        self._feed = feed
        self._plugins = [_definition_of(plugin) for plugin in plugins.values()]
        self._router_flavor = router_flavor
        self._router_ranking = router_ranking
        self._read: tuple[Version, Configuration] | None = None

    def __repr__(self) -> str:
        return f"<configurations {None if self._read is None else self._read[1]!r}>"

    def now(self) -> Configuration | None:
        """The one that workers have, or are being sent; None while there is none.

        It is read when it is asked for first, and kept until it changes.
        """
        feed = self._feed()
        if feed is None:
            self._read = None
            return None
        if self._read is None or self._read[0] != feed.version:
            # Two of them together take twice the memory.
            self._read = None
            self._read = feed.version, self.of(feed.since(None))
        return self._read[1]

    def forget(self) -> None:
        """Drops the one that was read, if it is not what workers have now."""
        feed = self._feed()
        if self._read is not None and (feed is None or self._read[0] != feed.version):
            self._read = None

    def of(self, message: bytes) -> Configuration:
        """The one that a message to a worker holds; any thread may ask."""
        return Configuration(
            message, router_flavor=self._router_flavor, router_ranking=self._router_ranking, plugins=self._plugins
        )

    def explain_record(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the configuration of now makes of a recorded request; None: there is none, or the record does not say enough."""
        configuration = self.now()
        if configuration is None:
            return None
        try:
            return configuration.explain(of_record(record), nearest=NEAREST)
        except (Undescribed, ValueError):
            return None


def _definition_of(plugin: type[Plugin]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "priority": plugin.priority,
        "phases": [phase for phase in PHASES if hasattr(plugin, phase)],
        "reads_body": plugin.reads_body,
        "authenticates": plugin.authenticates,
    }
