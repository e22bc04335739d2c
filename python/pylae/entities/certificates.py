# SPDX-License-Identifier: Apache-2.0
"""What is a Certificate?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylae.entities import common
from pylae.schema import Entity, custom, field, kinds, mutually_required
from pylae.vaults.reference import is_reference


def _public_keys(certificate: str, key: str) -> tuple[Any, Any]:
    """The public keys of a certificate and of a private key, both in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certified = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return certified, load_pem_private_key(key.encode(), password=None).public_key()


def _is_at_hand(row: Mapping[str, Any], *names: str) -> bool:
    """Whether all of these are given, and none is kept by a vault."""
    return not any(row[name] is None or is_reference(row[name]) for name in names)


def _key_matches(row: Mapping[str, Any]) -> str | None:
    if not _is_at_hand(row, "cert", "key"):
        return None
    certified, owned = _public_keys(row["cert"], row["key"])
    return None if certified == owned else "certificate does not match key"


def _alternative_key_matches(row: Mapping[str, Any]) -> str | None:
    if not _is_at_hand(row, "cert_alt", "key_alt"):
        return None
    certified, owned = _public_keys(row["cert_alt"], row["key_alt"])
    return None if certified == owned else "alternative certificate does not match key"


def _types_differ(row: Mapping[str, Any]) -> str | None:
    from cryptography import x509

    if not _is_at_hand(row, "cert", "cert_alt"):
        return None
    first, second = (x509.load_pem_x509_certificate(row[name].encode()).public_key() for name in ("cert", "cert_alt"))
    if type(first) is not type(second):
        return None
    return (
        "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), "
        "the provided certificates were both of the same type"
    )


class Certificate(Entity):
    """A certificate with its private key."""

    table = "certificates"

    id: str = field(common.uuid, doc="Identifies the Certificate.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    cert: str = field(
        kinds.string(rule="certificate"), required=True, referenceable=True, doc="The certificate and its chain, in PEM."
    )
    key: str = field(kinds.string(rule="key"), required=True, secret=True, referenceable=True, doc="The private key, in PEM.")
    cert_alt: str | None = field(
        kinds.string(rule="certificate"), referenceable=True, doc="A certificate with a key of another type, in PEM."
    )
    key_alt: str | None = field(
        kinds.string(rule="key"), secret=True, referenceable=True, doc="The private key of the other type, in PEM."
    )
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")
    snis: list[str] | None = field(
        kinds.array(kinds.string(rule="wildcard_host")), transient=True, doc="The server names it is shown for."
    )

    checks = (
        mutually_required("cert_alt", "key_alt"),
        custom("cert", "key", rule=_key_matches),
        custom("cert_alt", "key_alt", rule=_alternative_key_matches),
        custom("cert", "cert_alt", rule=_types_differ),
    )
