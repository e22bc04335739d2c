# SPDX-License-Identifier: Apache-2.0
"""Does who exchanges a code know the secret of who asked for it? RFC 7636."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from pylae.plugins.oauth2.answers import Refused
from pylae.plugins.oauth2.clients import Client
from pylae.plugins.oauth2.parameters import Parameters, is_unicode
from pylae.sdk.auth import equals

METHOD: Final = "S256"
SHORTEST: Final = 43
LONGEST: Final = 128
SETTINGS: Final[dict[str | None, frozenset[str]]] = {
    "lax": frozenset({"public"}),
    "strict": frozenset({"public", "confidential"}),
}
"""By what `pkce` says: the kinds of clients that must use it."""


def is_required(setting: str | None, client: Client) -> bool:
    """Must this client use it?"""
    return client.kind in SETTINGS.get(setting, frozenset())


def challenge_in(parameters: Parameters, setting: str | None, client: Client) -> str | None:
    """The challenge of who asks for a code; None where there is none, nor has to be.

    Raises:
        Refused: it is missing, or of a method that does not protect.
    """
    given, method = parameters.text("code_challenge"), parameters.raw("code_challenge_method")
    if given is None:
        if method is not None:
            raise Refused("invalid_request", "code_challenge is required when code_method is present")
        if is_required(setting, client):
            raise Refused("invalid_request", f"code_challenge is required for {client.kind} clients")
        return None
    if method != METHOD:
        # Without a method it would be `plain`: the verifier itself, in an address that others see.
        raise Refused("invalid_request", "code_challenge_method is not supported, must be S256")
    if len(given) > LONGEST or not is_unicode(given):
        raise Refused("invalid_request", "code_challenge is invalid")
    return given


def check_verifier(parameters: Parameters, challenge: str | None, setting: str | None, client: Client) -> None:
    """Judges the verifier of who exchanges a code.

    Raises:
        Refused: it is not the one that the challenge was made from.
    """
    verifier = parameters.raw("code_verifier")
    if challenge is None:
        if is_required(setting, client):
            raise Refused("invalid_request", f"code_challenge is required for {client.kind} clients")
        if verifier is not None:
            # The client did send a challenge: somebody took it out on the way (RFC 9700, section 4.8.2).
            raise Refused("invalid_grant", "Invalid code")
        return
    if verifier is None or verifier is True or verifier == "":
        raise Refused("invalid_request", "code_verifier is required for PKCE authorization requests")
    if not isinstance(verifier, str):
        raise Refused("invalid_request", "code_verifier is not a string")
    if not SHORTEST <= len(verifier) <= LONGEST:
        raise Refused("invalid_request", f"code_verifier must be between {SHORTEST} and {LONGEST} characters")
    if not equals(made_from(verifier), challenge):
        raise Refused("invalid_grant", "Invalid code")


def made_from(verifier: str) -> str:
    """The challenge of a verifier."""
    digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
