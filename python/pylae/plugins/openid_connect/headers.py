# SPDX-License-Identifier: Apache-2.0
"""Which headers tell the upstream, and the client, of a Grant?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pylae.plugins.openid_connect import claims
from pylae.plugins.openid_connect.config import Config
from pylae.plugins.openid_connect.parts import Grant
from pylae.sdk.auth.identity import CLAIMED_HEADERS

Made = list[tuple[str, str | None]]
"""Fields to set; None removes."""

_WHAT: Final[tuple[tuple[str, Callable[[Grant], Any]], ...]] = (
    ("access_token_header", lambda grant: grant.access_token),
    ("access_token_jwk_header", lambda grant: _object(grant.access_key)),
    ("id_token_header", lambda grant: grant.id_token),
    ("id_token_jwk_header", lambda grant: _object(grant.id_key)),
    ("refresh_token_header", lambda grant: grant.refresh_token),
    ("introspection_header", lambda grant: _object(grant.introspection)),
    ("introspection_jwt_header", lambda grant: grant.introspection_jwt),
    ("user_info_header", lambda grant: _object(grant.user_info)),
    ("user_info_jwt_header", lambda grant: grant.user_info_jwt),
)
_SCHEMES: Final = {"bearer": "Bearer ", "basic": "Basic "}

Field = tuple[str, str, Callable[[Grant], Any]]
"""Name, what stands before the value, the value."""


def _object(value: Any) -> str | None:
    return None if value is None else claims.encoded(value)


def session_field(fact: str) -> str:
    """The field that tells of a session: `Session-Id`."""
    return "Session-" + "-".join(part.capitalize() for part in fact.split("-"))


class HeaderPlan:
    """The headers of one direction.

    Args:
        config: Says which.
        direction: `upstream` or `downstream`.
        of_claims: Headers and ways to their claims.
    """

    def __init__(self, config: Config, direction: str, of_claims: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
        self._fields: list[Field] = []
        for suffix, value_of in _WHAT:
            said = getattr(config, f"{direction}_{suffix}")
            if said:
                name, _, scheme = said.partition(":")
                self._fields.append((name, _SCHEMES.get(scheme.lower(), ""), value_of))
        self._claims = of_claims
        session_id = getattr(config, f"{direction}_session_id_header")
        names = [name for name, _, _ in self._fields] + [name for name, _ in of_claims] + ([session_id] if session_id else [])
        if direction == "upstream":
            names += [session_field(name) for name in config.session_request_headers or ()]
        # `Authorization` is the client's own; and what Consumers are told by is imposed or removed elsewhere.
        kept = {"authorization", *(name.lower() for name in CLAIMED_HEADERS)}
        self.forged: tuple[tuple[str, None], ...] = tuple((name, None) for name in names if name.lower() not in kept)
        """Removes what a client sends under these names."""

    def make(self, grant: Grant) -> Made:
        """The fields that tell of a Grant; what it does not have is removed."""
        made: Made = []
        for name, scheme, value_of in self._fields:
            text = claims.header_text(value_of(grant))
            made.append((name, None if text is None else scheme + text))
        made += [(name, claims.header_text(claims.find(grant, path))) for name, path in self._claims]
        return made
