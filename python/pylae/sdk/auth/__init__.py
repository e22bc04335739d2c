# SPDX-License-Identifier: Apache-2.0
"""What do all plugins share that say who the client is?

Credentials are looked up through `pylae.sdk.entities.Lookup`, which forgets a revoked one as soon as control says so.
Here is the rest: who was found and what the upstream is told of it (`identity`), what a refused client is told and whom
it may pass as (`plugin`), decisions kept without the secret they rest on (`verified`), and attempts that fail too
often (`damping`).
"""

from pylae.sdk.auth.challenges import challenge
from pylae.sdk.auth.compare import equals
from pylae.sdk.auth.damping import Damping, damping_of
from pylae.sdk.auth.facts import Facts, facts_of
from pylae.sdk.auth.identity import CLAIMED_HEADERS, Identity, drop_claims
from pylae.sdk.auth.plugin import UNAUTHORIZED, AuthPlugin, Outcome, Refusal
from pylae.sdk.auth.systems import SystemUnavailable
from pylae.sdk.auth.verified import Remembered, Verified

__all__ = [
    "CLAIMED_HEADERS",
    "UNAUTHORIZED",
    "AuthPlugin",
    "Damping",
    "Facts",
    "Identity",
    "Outcome",
    "Refusal",
    "Remembered",
    "SystemUnavailable",
    "Verified",
    "challenge",
    "damping_of",
    "drop_claims",
    "equals",
    "facts_of",
]
