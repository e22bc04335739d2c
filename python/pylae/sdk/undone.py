# SPDX-License-Identifier: Apache-2.0
"""What does a plugin do whose configuration is understood, but whose work is not part of this version?

It can be configured, validated and shown like any other, so that a configuration made for Kong is kept whole. What
it was configured for cannot be had, and it says so: requests that it should guard or change are refused, and what
would only have watched them lets them pass with one warning per worker.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pylae.errors import PylaeError
from pylae.sdk.exchange import Exchange
from pylae.sdk.host import Host
from pylae.sdk.plugin import Instance, Plugin


class WorkMissing(PylaeError):
    """A request met a plugin that can be configured and does nothing."""


class Undone(Plugin):
    """Base of a plugin that can be configured and does nothing."""

    done = False
    observes_only: ClassVar[bool] = False
    """Whether all it would do is to tell others about a request that is over."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._has_warned = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.observes_only:
            cls.log = _warn_once  # type: ignore[attr-defined]  # phases are found by name, and only one is wanted
        else:
            cls.access = _refuse  # type: ignore[attr-defined]  # as above

    @classmethod
    def warning(cls) -> str:
        """What whoever configures it should know."""
        consequence = "nothing is sent" if cls.observes_only else "requests are refused"
        return f"the plugin `{cls.name}` is configured, but its work is not part of this version: {consequence}"

    @classmethod
    def prepare(cls, config: Any, instance: Instance) -> None:
        """Nothing of the configuration is used."""


def _refuse(plugin: Undone, exchange: Exchange, config: None) -> None:  # noqa: ARG001 - a phase of a plugin
    """Fails closed: a request that nobody guarded does not go upstream, and there is a record of it."""
    raise WorkMissing(
        f"the plugin `{plugin.name}` is configured, but its work is not part of this version: the request is refused"
    )


def _warn_once(plugin: Undone, exchange: Exchange, config: None) -> None:  # noqa: ARG001 - a phase of a plugin
    """Says once per worker that nobody is told."""
    if not plugin._has_warned:
        plugin._has_warned = True
        plugin.host.log("warn", plugin.warning())
