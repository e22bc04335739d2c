# SPDX-License-Identifier: Apache-2.0
"""Whom does a configuration trust to say who a client is?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Authority:
    """A row of `ca_certificates`, read once.

    Attributes:
        id: of the row.
        der: the certificate.
        name: its subject (DER).
        is_root: whether it vouches for itself: it ends a chain.
    """

    __slots__ = ("der", "id", "is_root", "name")

    def __init__(self, row: Mapping[str, Any]) -> None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import Encoding

        certificate = x509.load_pem_x509_certificate(row["cert"].encode())
        self.id: str = row["id"]
        self.der = certificate.public_bytes(Encoding.DER)
        self.name = certificate.subject.public_bytes()
        try:
            certificate.verify_directly_issued_by(certificate)
        except (InvalidSignature, ValueError, TypeError):
            self.is_root = False
        else:
            self.is_root = True

    def __repr__(self) -> str:
        return f"<authority {self.id}>"


class Trust:
    """The authorities of one configuration; another object as soon as one of them changes.

    Attributes:
        anchors: those at which a chain may end.
        helpers: DER of those that only help to get there.
    """

    __slots__ = ("anchors", "authorities", "helpers")

    def __init__(self, authorities: Sequence[Authority], *, allow_partial_chain: bool) -> None:
        self.authorities = tuple(authorities)
        self.anchors = tuple(one for one in authorities if one.is_root or allow_partial_chain)
        self.helpers = tuple(one.der for one in authorities if not (one.is_root or allow_partial_chain))

    def __repr__(self) -> str:
        return f"<trust in {len(self.authorities)} authorities>"

    def ids_of(self, certificates: Sequence[bytes]) -> tuple[str, ...]:
        """The ids of these (DER), as far as they are known."""
        by_der = {one.der: one.id for one in self.authorities}
        return tuple(by_der[der] for der in certificates if der in by_der)
