# SPDX-License-Identifier: Apache-2.0
"""What is a client told that asks for a code or a token, or comes without a good one? RFC 6749, section 5.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.sdk import Answer, Exchange
from pylae.sdk.auth import challenge

UNCACHED: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MISSING_TOKEN: Final = "The access token is missing"  # what it says
INVALID_TOKEN: Final = "The access token is invalid or has expired"
GLOBAL_TOKEN: Final = "The access token is global, but the current plugin is configured without 'global_credentials'"  # likewise
SEVERAL_TOKENS: Final = "More than one access token was sent"
GUESSES: Final = frozenset({"invalid_client", "invalid_provision_key"})
"""Errors of whom may be trying out secrets."""


class Refused(Exception):
    """Neither code nor token is given; the names of RFC 6749, and Kong's words."""

    def __init__(self, error: str, description: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers or {}

    def fields(self) -> dict[str, Any]:
        """What the body, or the address a user is sent back to, says."""
        return {"error": self.error, "error_description": self.description}

    def answer(self, exchange: Exchange, state: str | None) -> Answer:
        """The answer to who asked."""
        return exchange.answer(self.status, with_state(self.fields(), state), {**UNCACHED, **self.headers})


def with_state(fields: dict[str, Any], state: str | None) -> dict[str, Any]:
    """With what the client wants to recognise its own request by."""
    return fields if state is None else {**fields, "state": state}


def invalid_client(*, came_in_header: bool) -> Refused:
    """Who asks is no application of ours, or did not prove to be; in a header, the header is asked for again."""
    description = "Invalid client authentication"
    if came_in_header:
        return Refused("invalid_client", description, 401, challenge("Basic", realm="OAuth2.0"))
    return Refused("invalid_client", description)


class TokenRefusal:
    """A refusal of a request to the API; made once per configuration."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, error: str, description: str, realm: str | None, *, status: int = 401, is_told: bool = True) -> None:
        self.status = status
        self.body = {"error": error, "error_description": description}
        self.headers = challenge(
            "Bearer",
            realm=realm,
            error=error if is_told else None,
            error_description=description if is_told else None,
        )
