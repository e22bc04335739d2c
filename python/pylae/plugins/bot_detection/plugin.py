# SPDX-License-Identifier: Apache-2.0
"""bot-detection: is it a crawler that calls?

For APIs that are for programs of people only. It believes `User-Agent`, which any client may write as it likes: it
keeps out who is honest, and is no protection against who is not.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from pylae.plugins.bot_detection import config as declared
from pylae.plugins.bot_detection.crawlers import CRAWLERS
from pylae.schema.rules import compiled
from pylae.sdk import Answer, Exchange, Instance, Plugin

MAX_REMEMBERED: Final = 1_024
"""Fields whose verdict one configuration remembers."""
MAX_CHARACTERS: Final = 1_024
"""As much of a field is looked at: who calls says so at its beginning."""


class Prepared:
    """A configuration with its patterns compiled, and the verdicts on what it has met."""

    __slots__ = ("_allow", "_deny", "_verdicts")

    def __init__(self, config: declared.Config) -> None:
        self._allow = _any_of(config.allow)
        self._deny = _any_of(config.deny)
        self._verdicts: OrderedDict[str, bool] = OrderedDict()

    def lets_in(self, agent: str) -> bool:
        """May a client of this name call?"""
        agent = agent[:MAX_CHARACTERS]
        known = self._verdicts.get(agent)
        if known is None:
            known = self._judge(agent)
            self._verdicts[agent] = known
            if len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
        return known

    def _judge(self, agent: str) -> bool:
        if any(pattern.search(agent) for pattern in self._allow):
            return True
        if any(pattern.search(agent) for pattern in self._deny):
            return False
        return CRAWLERS.search(agent) is None


def _any_of(patterns: list[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(compiled(pattern) for pattern in patterns)


class BotDetection(Plugin):
    """Refuses clients whose `User-Agent` is that of a known crawler."""

    name = "bot-detection"
    version = "3.10.0"
    priority = 2500
    scopes = ("global", "service", "route")
    is_pure = True
    Config = declared.Config

    @classmethod
    def prepare(cls, config: declared.Config, instance: Instance) -> Prepared:  # noqa: ARG003 - the same for every scope
        """Compiles the patterns."""
        return Prepared(config)

    def access(self, exchange: Exchange, config: Prepared) -> Answer | None:
        """Judges `User-Agent`; who sends none is let through."""
        agents = exchange.request.get_header_values("user-agent")
        if not agents:
            return None
        if len(agents) > 1:
            return exchange.error(400, "Only one User-Agent header allowed")
        return None if config.lets_in(agents[0]) else exchange.error(403, "Forbidden")
