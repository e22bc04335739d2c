# SPDX-License-Identifier: Apache-2.0
"""Whom does a Grant stand for, and what are others told of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pylae.plugins.openid_connect import claims, presented
from pylae.plugins.openid_connect.headers import Made
from pylae.plugins.openid_connect.parts import Forbidden, Grant
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk import MISSING, Exchange
from pylae.sdk.auth import CLAIMED_HEADERS, Identity, facts_of
from pylae.sdk.auth.facts import set_groups
from pylae.sdk.entities import Lookup

GROUPS_HEADER: Final = "X-Authenticated-Groups"
BY_TOKEN: Final = frozenset({"bearer", "introspection", "userinfo", "kong_oauth2"})
"""Methods of authentication whose credential is an access token in the request."""

Found = tuple[Lookup, str, Mapping[str, Any]]
"""The look-up that knows a Consumer, the value it was asked for, and the row it answered."""


class Decision:
    """A Grant that may pass, and all that follows from it.

    Attributes:
        keys: Of the provider, before it was verified: once others are fetched, it is verified again.
        found: The Consumer; None without one.
        in_vain: Where others were looked for before, and are not.
        identity: Who it is, and the fields for the upstream whose names begin with `X-`, laid over in one pass.
        others: The other fields for the upstream.
        missing: Those of them that a request lacks which has the token in `Authorization: Bearer` already.
    """

    __slots__ = (
        "downstream",
        "ends_s",
        "facts",
        "found",
        "grant",
        "groups",
        "hides",
        "identity",
        "in_vain",
        "issuer",
        "keys",
        "missing",
        "others",
        "scopes",
        "subject",
    )

    def __init__(
        self, settings: Settings, grant: Grant, found: Found | None, keys: object, in_vain: Sequence[tuple[Lookup, str]] = ()
    ) -> None:
        config = settings.config
        self.in_vain = tuple(in_vain)
        self.grant = grant
        self.found = found
        self.keys = keys
        self.identity = _identity(grant, found, tuple(config.credential_claim or ("sub",)))
        self.hides = config.hide_credentials is True
        self.groups: list[str] | None = None
        if config.authenticated_groups_claim:
            self.groups = claims.values_of(claims.find(grant, tuple(config.authenticated_groups_claim)))
        upstream = settings.upstream_plan.make(grant)
        upstream.append((GROUPS_HEADER, claims.header_text(", ".join(self.groups)) if self.groups else None))
        # A field that is named twice, or is who it is already, is laid over by the plan's own order.
        named = [name.lower() for name in CLAIMED_HEADERS] + [name.lower() for name, _ in upstream]
        told = [field for field in upstream if field[0][:1] in ("x", "X") and named.count(field[0].lower()) == 1]
        self.identity.headers += tuple(told)
        self.others: Made = [field for field in upstream if field not in told]
        own = None if self.hides else ("authorization", f"Bearer {grant.access_token}")
        self.missing: Made = [field for field in self.others if (field[0].lower(), field[1]) != own]
        self.downstream: Made = [field for field in settings.downstream_plan.make(grant) if field[1] is not None]
        self.facts: Mapping[str, Any] = next(iter(claims.sources(grant)), {})
        issuer, subject = self.facts.get("iss"), self.facts.get("sub")
        self.issuer = issuer if isinstance(issuer, str) else None
        self.subject = subject if isinstance(subject, str) else None
        self.scopes = claims.values_of(claims.find(grant, tuple(config.scopes_claim or ("scope",))))
        self.ends_s = grant.expires_at_s

    def __repr__(self) -> str:
        return f"<decision {self.grant.method}>"

    def stands(self, settings: Settings) -> bool:
        """Does it still hold, apart from the time?"""
        if settings.provider is None or settings.provider.keys is not self.keys:
            return False
        if self.in_vain and not all(lookup.cached(value) is None for lookup, value in self.in_vain):
            return False
        if self.found is None:
            return True
        lookup, value, row = self.found
        return lookup.cached(value) is row

    @property
    def is_lasting(self) -> bool:
        """Would it be noticed if what it rests on changed?"""
        return self.keys is not None and (self.found is None or self.found[0].cached(self.found[1]) is not MISSING)

    def impose(self, exchange: Exchange, settings: Settings, others: Made) -> None:
        """Tells the gateway, later plugins, the upstream and the client."""
        if self.hides:
            # First: a token may go on under the name it came by.
            presented.hide(exchange, settings, self.grant.method)
        self.identity.impose(exchange)
        if others:
            exchange.service.request.set_headers(others)
        if self.downstream:
            exchange.response.set_headers(self.downstream)
        if self.groups is not None:
            set_groups(exchange, self.groups)
        facts = facts_of(exchange)
        facts.methods.append("openid-connect")
        facts.claims = self.facts
        facts.issuer = self.issuer
        facts.subject = self.subject
        facts.scopes = self.scopes
        facts.expires_at_s = self.ends_s


def _identity(grant: Grant, found: Found | None, path: tuple[str, ...]) -> Identity:
    """With or without a Consumer there is something that later plugins may count by."""
    identifier = claims.header_text(claims.name_of(claims.find(grant, path)))
    if found is not None:
        consumer = found[2]
        return Identity(consumer, {"id": identifier or consumer["id"]}, identifier)
    known = identifier or claims.name_of(claims.find(grant, ("azp",))) or claims.name_of(claims.find(grant, ("client_id",)))
    return Identity(None, {"id": known or (grant.client.client_id if grant.client else "unknown")}, identifier)


class Consumers:
    """The Consumers that claims may name.

    Args:
        lookups: By field.
    """

    def __init__(self, lookups: Mapping[str, Lookup]) -> None:
        self._lookups = lookups

    def __repr__(self) -> str:
        return "<consumers>"

    async def of(self, settings: Settings, grant: Grant, in_vain: list[tuple[Lookup, str]]) -> Found | None:
        """Whom a Grant stands for; None where that may be nobody.

        Args:
            settings: The configuration.
            grant: Whose Consumer is looked for.
            in_vain: Gets the look-ups that knew nobody, with their values: one who is added later would be found there.

        Raises:
            Forbidden: it has to be somebody.
        """
        if grant.consumer_id is not None:
            lookup = self._lookups["id"]
            row = await lookup.get(grant.consumer_id)
            if row is None:
                raise Forbidden("the Consumer of the token is gone")
            return lookup, grant.consumer_id, row
        if not settings.consumer_claims:
            return None
        found = await self._by_claims(settings, grant, in_vain)
        if found is None and not settings.config.consumer_optional:
            raise Forbidden("no Consumer for what the token says")
        return found

    async def _by_claims(self, settings: Settings, grant: Grant, in_vain: list[tuple[Lookup, str]]) -> Found | None:
        for path in settings.consumer_claims:
            value = claims.name_of(claims.find(grant, path))
            # No row has a name with NUL or half a character, and not every database may be asked for one.
            if value is None or "\0" in value or not _is_text(value):
                continue
            for field in settings.config.consumer_by or ():
                if field == "id" and not (len(value) == 36 and value.count("-") == 4):
                    continue
                lookup = self._lookups[field]
                row = await lookup.get(value)
                if row is not None:
                    return lookup, value, row
                in_vain.append((lookup, value))
        return None


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
