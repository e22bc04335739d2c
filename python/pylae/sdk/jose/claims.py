# SPDX-License-Identifier: Apache-2.0
"""Do the claims hold, here and now? RFC 7519, section 4.1."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pylae.sdk.jose.errors import ClaimRefused

Claims = Mapping[str, Any]

FAR_S: Final = 10**12
"""Points in time further off are taken for this one, some 30,000 years from now."""


def numeric_date(claims: Claims, name: str) -> float | None:
    """A point in time, in seconds since the epoch; None when the token does not say.

    Raises:
        ClaimRefused: `must be a number`.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ClaimRefused(name, "must be a number")
    return max(-FAR_S, min(value, FAR_S))


def check_times(
    claims: Claims, now_s: float, *, skew_s: float = 0, requires_end: bool = False, max_age_s: float | None = None
) -> None:
    """Is it time? A token ends at `exp`, begins at `nbf`, and was not made later than now.

    Args:
        claims: Of a token whose signature was verified.
        now_s: Seconds since the epoch.
        skew_s: How far the issuer's clock may be from ours, either way.
        requires_end: Refuses tokens without `exp`.
        max_age_s: Refuses tokens made longer ago, and those that don't say when.

    Raises:
        ClaimRefused: it is not.
    """
    ends_s = numeric_date(claims, "exp")
    if ends_s is None:
        if requires_end:
            raise ClaimRefused("exp", "must be a number")
    elif ends_s + skew_s <= now_s:
        raise ClaimRefused("exp", "token expired")
    begins_s = numeric_date(claims, "nbf")
    if begins_s is not None and begins_s - skew_s > now_s:
        raise ClaimRefused("nbf", "token not valid yet")
    made_s = numeric_date(claims, "iat")
    if made_s is not None and made_s - skew_s > now_s:
        raise ClaimRefused("iat", "token from the future")
    if max_age_s is not None:
        if made_s is None:
            raise ClaimRefused("iat", "must be a number")
        if made_s + max_age_s + skew_s < now_s:
            raise ClaimRefused("iat", "token too old")


def check_issuer(claims: Claims, issuers: Collection[str]) -> None:
    """Is it from one of these? Compared character by character (RFC 3986's normalisation would let others in).

    Raises:
        ClaimRefused: it is not, or does not say.
    """
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer not in issuers:
        raise ClaimRefused("iss", "unknown issuer")


def check_audience(claims: Claims, audiences: Collection[str], name: str = "aud") -> None:
    """Is it for one of these? The claim is a text or a list of texts.

    Raises:
        ClaimRefused: it is not, or does not say.
    """
    value = claims.get(name)
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not any(isinstance(one, str) and one in audiences for one in named):
        raise ClaimRefused(name, "not for this audience")
