# SPDX-License-Identifier: Apache-2.0
"""What is a CA certificate?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pylae.entities import common
from pylae.schema import Entity, custom, field, kinds


def _is_authority(row: Mapping[str, Any]) -> str | None:
    from cryptography import x509

    if row["cert"] is None:
        return None
    if row["cert"].count("-----BEGIN ") > 1:
        return "please submit only one certificate at a time"
    certificate = x509.load_pem_x509_certificate(row["cert"].encode())
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return 'certificate expired, "Not After" time is in the past'
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_authority = constraints.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        return 'certificate does not appear to be a CA because it is missing the "CA" basic constraint'
    return None


class CaCertificate(Entity):
    """A certificate authority that others are checked against."""

    table = "ca_certificates"
    workspaceable = False

    id: str = field(common.uuid, doc="Identifies the CA certificate.")
    created_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was made.")
    updated_at: int = field(common.timestamp_s, unit="seconds since the epoch", doc="When it was last written.")
    cert: str = field(kinds.string(rule="certificate"), required=True, doc="The certificate, in PEM.")
    cert_digest: str | None = field(kinds.string(), unique=True, doc="Its SHA-256 in hexadecimal; computed.")
    tags: list[str] | None = field(common.tags, doc="Words to find it by.")

    checks = (custom("cert", rule=_is_authority),)

    @classmethod
    def complete(cls, row: dict[str, Any]) -> None:
        """Computes the digest, which makes the same certificate known again."""
        from cryptography import x509
        from cryptography.hazmat.primitives.hashes import SHA256

        row["cert_digest"] = x509.load_pem_x509_certificate(row["cert"].encode()).fingerprint(SHA256()).hex()
