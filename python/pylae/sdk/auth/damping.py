# SPDX-License-Identifier: Apache-2.0
"""How is guessing slowed down? Opt-in, by the plugin `auth-damping`.

That plugin runs before those that authenticate, refuses an address that failed too often, and leaves a `Damping` in the
exchange. A plugin that authenticates by a name (a username, a key id) asks it before it looks at the secret, and tells it
how that went:

    damping = damping_of(exchange)
    if damping is not None and damping.is_locked("basic-auth", username):
        return damping.refusal(exchange)
    ...
    if damping is not None:
        damping.failed("basic-auth", username)
"""

from __future__ import annotations

from typing import Final, Protocol

from pylae.sdk.exchange import Answer, Exchange

KEY: Final = "auth.damping"


class Damping(Protocol):
    """What `auth-damping` leaves in an exchange."""

    def is_locked(self, plugin: str, name: str) -> bool:
        """Did this name fail too often, from wherever? Then not even the right secret passes, until the window is over."""
        ...

    def failed(self, plugin: str, name: str | None) -> None:
        """Counts a failure for the client's address, and for the name if there is one."""
        ...

    def refusal(self, exchange: Exchange) -> Answer:
        """The answer to whoever is locked out: 429 with `Retry-After`."""
        ...


def damping_of(exchange: Exchange) -> Damping | None:
    """What was left in the exchange; None where nobody wants damping."""
    return exchange.ctx.get(KEY)
