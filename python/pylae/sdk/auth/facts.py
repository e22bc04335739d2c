# SPDX-License-Identifier: Apache-2.0
"""What is known of the client beyond its Consumer? Later plugins of the same request read it.

`exchange.ctx["auth.facts"]` holds it; `exchange.ctx["authenticated_groups"]` is Kong's own place for groups, and the
same list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pylae.sdk.exchange import Exchange

KEY: Final = "auth.facts"
GROUPS_KEY: Final = "authenticated_groups"


@dataclass(slots=True)
class Facts:
    """Who the client is, as the plugins that let it pass know it; never a secret."""

    methods: list[str] = field(default_factory=list)
    """Names of the plugins that authenticated it, in order: `["jwt"]`."""
    subject: str | None = None
    """The name its issuer has for it: a `sub` claim, the DN of an LDAP entry, the subject of a certificate."""
    issuer: str | None = None
    """Who vouches for it: an `iss` claim, the DN of the authority."""
    scopes: Sequence[str] = ()
    """What its token is good for."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """The claims of a token whose signature, or whose introspection, was checked."""
    expires_at_s: float | None = None
    """When all this ends, in seconds since the epoch."""
    certificate_fingerprint: str | None = None
    """SHA-256 of the client's certificate (DER), in hex."""


def facts_of(exchange: Exchange) -> Facts:
    """The facts of this request, empty at first; change them in place."""
    facts = exchange.ctx.get(KEY)
    if not isinstance(facts, Facts):
        facts = exchange.ctx[KEY] = Facts()
    return facts


def groups_of(exchange: Exchange) -> list[str] | None:
    """The groups an authority says the client is in; None when none said anything."""
    groups = exchange.ctx.get(GROUPS_KEY)
    return groups if isinstance(groups, list) else None


def set_groups(exchange: Exchange, groups: Sequence[str]) -> None:
    """Says so; `acl` and others look there."""
    exchange.ctx[GROUPS_KEY] = list(groups)
