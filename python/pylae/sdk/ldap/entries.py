# SPDX-License-Identifier: Apache-2.0
"""What is looked for in a directory, and what is found? RFC 4511, section 4."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

# What RFC 4511, appendix A.1 calls them, for operators who look it up; a code without a name stands as a number.
_NAMES: Final = {
    1: "operationsError",
    2: "protocolError",
    3: "timeLimitExceeded",
    4: "sizeLimitExceeded",
    7: "authMethodNotSupported",
    8: "strongerAuthRequired",
    10: "referral",
    11: "adminLimitExceeded",
    13: "confidentialityRequired",
    14: "saslBindInProgress",
    32: "noSuchObject",
    34: "invalidDNSyntax",
    48: "inappropriateAuthentication",
    49: "invalidCredentials",
    50: "insufficientAccessRights",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}


class Scope(IntEnum):
    """How far down a search looks."""

    BASE = 0
    ONE = 1
    SUBTREE = 2


@dataclass(frozen=True, slots=True)
class Equals:
    """Entries whose attribute has this value; the value is a value whatever its characters."""

    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class Present:
    """Entries that have the attribute."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A found entry: its name, and values by attribute in lower case; what is no UTF-8 is left out."""

    name: str
    attributes: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """How an operation ended."""

    code: int

    @property
    def name(self) -> str:
        """As the RFC calls it; never the server's own text, which may quote what was sent."""
        return _NAMES.get(self.code, f"result code {self.code}")
