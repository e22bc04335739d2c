# SPDX-License-Identifier: Apache-2.0
"""resilience: what is done about upstreams that are slow, full or failing?

For anyone whose upstreams have bad days. Nothing of it is Kong's, and nothing of it happens unless it is configured.
The data plane does all of the work (`crates/pylae-core/src/resilience`): there is no Python on a request's way.
"""

from __future__ import annotations

from pylae.plugins.resilience import config as declared
from pylae.sdk import Plugin


class Resilience(Plugin):
    """Budgets retries, bounds attempts, breaks circuits, hedges, queues, and is gentle to Targets."""

    name = "resilience"
    version = "0.1.0"
    priority = 1
    is_native = True
    scopes = ("global", "service", "route")
    Config = declared.Config
