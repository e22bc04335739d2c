# SPDX-License-Identifier: Apache-2.0
"""What is a jwt credential?"""

from __future__ import annotations

from typing import Final

from pylae.schema import conditional
from pylae.sdk import Entity, field, kinds

WITH_PUBLIC_KEY: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
"""Algorithms of which Kong asks for a public key when the credential is made; of ES256 and its like it does not."""


def _judge_public_key(pem: str) -> str | None:
    """Signatures can be verified with it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "invalid key"
    return None


class JwtSecret(Entity):
    """What the tokens of a Consumer are signed with."""

    table = "jwt_secrets"
    endpoint_key = "key"
    cache_key = ("key",)
    admin_path_name = "jwts"
    admin_nested_name = "jwt"

    checks = (
        conditional(
            "algorithm",
            {"match_any": (tuple(f"^{algorithm}$" for algorithm in WITH_PUBLIC_KEY), "")},
            "rsa_public_key",
            {"rule": _judge_public_key, "required": True},
        ),
    )

    id: str = field(kinds.string(uuid=True), auto=True, doc="Identifies the credential.")
    created_at: int = field(kinds.integer(timestamp=True), auto=True, unit="seconds since the epoch", doc="When it was made.")
    consumer: dict[str, str] = field(
        kinds.foreign("consumers", on_delete="cascade"), required=True, doc="Whose credential it is."
    )
    key: str = field(kinds.string(), unique=True, auto=True, doc="What a token's key claim must say; random when none is given.")
    secret: str = field(
        kinds.string(),
        auto=True,
        secret=True,
        encrypted=False,
        doc="Secret that HMAC signatures are verified with; random when none is given.",
    )
    rsa_public_key: str | None = field(kinds.string(), doc="Public key in PEM that other signatures are verified with.")
    algorithm: str = field(
        kinds.string(
            one_of=(
                "HS256",
                "HS384",
                "HS512",
                "RS256",
                "RS384",
                "RS512",
                "ES256",
                "ES384",
                "ES512",
                "PS256",
                "PS384",
                "PS512",
                "EdDSA",
            )
        ),
        default="HS256",
        doc="Signature algorithm a token must use.",
    )
    tags: list[str] | None = field(kinds.set_of(kinds.string(rule="tag", required=True)), doc="Words to find it by.")
