# SPDX-License-Identifier: Apache-2.0
"""Which signature algorithms are there, and what kind of key does each need? RFC 7518, section 3.1; RFC 8037."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "HS256": "oct",
        "HS384": "oct",
        "HS512": "oct",
        "RS256": "RSA",
        "RS384": "RSA",
        "RS512": "RSA",
        "PS256": "RSA",
        "PS384": "RSA",
        "PS512": "RSA",
        "ES256": "P-256",
        "ES384": "P-384",
        "ES512": "P-521",
        "EdDSA": "OKP",
    }
)
"""The kind of key (`Key.kind`) by algorithm; `none` is not among them."""

HASHES: Final[Mapping[str, str]] = MappingProxyType({"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"})
"""The hash below each HMAC, as hashlib calls it."""
