# SPDX-License-Identifier: Apache-2.0
"""Has an authority revoked a certificate, as its OCSP responder tells? RFC 6960."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from pylae.plugins.mtls_auth.fetch import Unanswered

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import ocsp

CONTENT_TYPE: Final = "application/ocsp-request"
MAX_SKEW: Final = datetime.timedelta(minutes=5)
MAX_AGE: Final = datetime.timedelta(days=1)
"""Of an answer that does not say when the next one is due."""


class Told(NamedTuple):
    """What a responder says: `good`, `revoked` or `unknown`, and until when it stands (seconds since the epoch)."""

    status: str
    until_s: float


def request_of(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """What to ask."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    # SHA-1 names the issuer, and protects nothing; every responder knows it (RFC 5019, section 2.1.1).
    return ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1()).build().public_bytes(Encoding.DER)


def read(answer: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now_s: float) -> Told:
    """What the answer says of the certificate, if it is the issuer's word and of today.

    Raises:
        Unanswered: it says nothing that counts.
    """
    from cryptography.x509 import ocsp

    try:
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Unanswered(f"it answers {response.response_status.name.lower()}")
        now = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
        _check_signature(response, issuer, now)
        single = _single(response, certificate, issuer)
        if single.this_update_utc > now + MAX_SKEW:
            raise Unanswered("its answer is of the future")
        until = single.next_update_utc or single.this_update_utc + MAX_AGE
        if until < now:
            raise Unanswered("its answer is out of date")
        return Told(single.certificate_status.name.lower(), until.timestamp())
    except (ValueError, TypeError) as error:
        raise Unanswered(f"its answer cannot be read: {error}") from error


def _single(response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPSingleResponse:
    """The part that is about this certificate of this issuer."""
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    from cryptography.x509 import ocsp

    for single in response.responses:
        algorithm = single.hash_algorithm
        if single.serial_number != certificate.serial_number or not isinstance(algorithm, (SHA1, SHA256)):
            continue
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm).build()
        if (single.issuer_name_hash, single.issuer_key_hash) == (asked.issuer_name_hash, asked.issuer_key_hash):
            return single
    raise Unanswered("its answer is about another certificate")


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime.datetime) -> None:
    """By the issuer, or by whom it entrusted with answers (RFC 6960, section 4.2.2.2)."""
    for signer in (issuer, *response.certificates):
        if signer is not issuer and not _is_delegate(signer, issuer, now):
            continue
        if _has_signed(signer.public_key(), response):
            return
    raise Unanswered("its answer is not signed by the issuer")


def _is_delegate(signer: x509.Certificate, issuer: x509.Certificate, now: datetime.datetime) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        return False
    try:
        signer.verify_directly_issued_by(issuer)
        usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usages


def _has_signed(key: PublicKeyTypes, response: ocsp.OCSPResponse) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import MD5, SHA1

    signature, signed = response.signature, response.tbs_response_bytes
    try:
        algorithm = response.signature_hash_algorithm
        if isinstance(algorithm, (MD5, SHA1)):
            return False
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)) and algorithm is None:
            key.verify(signature, signed)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
