# SPDX-License-Identifier: Apache-2.0
"""What follows from the configuration, and what from an answer under it?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pylae.plugins.oauth2_introspection import config as declared
from pylae.sdk import Instance, bodies
from pylae.sdk.auth import Identity, Refusal, challenge
from pylae.sdk.http import Endpoint
from pylae.sdk.jose import numeric_date

MAX_HEADER_CHARACTERS: Final = 8_192
MISSING: Final = "The access token is missing"
INVALID: Final = "The access token is invalid or has expired"
IDENTIFIER: Final = "username"
"""The claim that `X-Credential-Identifier` tells of."""
CLAIM_HEADERS: Final = (
    ("scope", "X-Credential-Scope"),
    ("client_id", "X-Credential-Client-ID"),
    ("token_type", "X-Credential-Token-Type"),
    ("exp", "X-Credential-Exp"),
    ("iat", "X-Credential-Iat"),
    ("nbf", "X-Credential-Nbf"),
    ("sub", "X-Credential-Sub"),
    ("aud", "X-Credential-Aud"),
    ("iss", "X-Credential-Iss"),
    ("jti", "X-Credential-Jti"),
)
"""Members of an answer (RFC 7662, section 2.2) and the headers that tell the upstream of them."""
_NOT_IN_NAMES: Final = re.compile(r"[^0-9A-Za-z_-]+")


class Settings:
    """A configuration with everything computed that does not depend on the request; never kept in a log."""

    def __init__(self, config: declared.Config, instance: Instance) -> None:
        self.anonymous = config.anonymous or None
        self.skips_preflight = not config.run_on_preflight
        self.hides = config.hide_credentials
        self.endpoint = Endpoint.parse(config.introspection_url)
        self.system = f"introspection endpoint {self.endpoint.scheme}://{self.endpoint.authority}{self.endpoint.path}"
        self.ttl_ms = max(int((config.ttl or 0) * 1000), 0)
        self.hint = config.token_type_hint
        self.timeout_ms = config.timeout or 10_000
        self.keepalive_ms = max(config.keepalive or 0, 0)
        self.tells_request = config.introspect_request
        self.by_username = config.consumer_by != "client_id"
        self.headers = {
            **(config.custom_introspection_headers or {}),
            "Authorization": config.authorization_value,
            "Accept": "application/json",
            "Content-Type": bodies.FORM,
        }
        forwarded = ((claim, f"X-Credential-{_NOT_IN_NAMES.sub('-', claim)}") for claim in config.custom_claims_forward or ())
        self.claim_headers = (*CLAIM_HEADERS, *forwarded)
        self.without_claims = tuple((header, None) for _, header in self.claim_headers)
        self.tag = instance.id
        self.missing: Refusal = 401, MISSING, challenge("Bearer", realm="service")
        told = challenge("Bearer", realm="service", error="invalid_token", error_description=INVALID)
        self.invalid: Refusal = 401, INVALID, told

    def __repr__(self) -> str:
        return f"<oauth2-introspection at {self.endpoint.authority}>"


class Decision:
    """A token that is active, and what the upstream is told of it.

    Attributes:
        name: what names the Consumer: its username or its custom id.
    """

    __slots__ = ("_identity", "_row", "claims", "ends_at_s", "fields", "issuer", "name", "scopes", "subject")

    def __init__(self, config: Settings, claims: Mapping[str, Any]) -> None:
        self.claims = claims
        self.fields = tuple((header, header_text(claims.get(claim))) for claim, header in config.claim_headers)
        name = claims.get("username" if config.by_username else "client_id")
        self.name = name if isinstance(name, str) and name and "\0" not in name else None
        self.subject, self.issuer = header_text(claims.get("sub")), header_text(claims.get("iss"))
        scope = claims.get("scope")
        self.scopes = tuple(scope.split()) if isinstance(scope, str) else ()
        self.ends_at_s = numeric_date(claims, "exp")
        self._identity: Identity | None = None
        self._row: object = None

    def __repr__(self) -> str:
        return f"<decision for {self.name}>"

    def identity_of(self, consumer: Mapping[str, Any] | None) -> Identity:
        """Whom the client passes as; without a Consumer there is a credential all the same."""
        if self._identity is None or self._row is not consumer:
            identifier = header_text(self.claims.get(IDENTIFIER))
            credential_id = identifier or header_text(self.claims.get("client_id")) or self.subject or "unnamed"
            self._row = consumer
            self._identity = Identity(consumer, {"id": credential_id}, identifier)
        return self._identity


def header_text(value: Any) -> str | None:
    """A claim as a header carries it; None for what none can."""
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else bodies.encode_json(value).decode()
    # A line feed would begin a header of the server's choice.
    if len(text) > MAX_HEADER_CHARACTERS or any(ord(one) < 0x20 or ord(one) == 0x7F for one in text):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
