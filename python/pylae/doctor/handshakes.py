# SPDX-License-Identifier: Apache-2.0
"""What happens when the gateway shakes hands with a TLS server, and what does the server show of itself?"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""What workers offer with TLS 1.2; those of 1.3 are all offered."""
_HANDSHAKE_RECORD: Final = 22
_CHANGE_CIPHER_RECORD: Final = 20
_CERTIFICATE_REQUEST: Final = 13
_MOST_NAMES: Final = 8

ALERTS: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": "version",
    "UNSUPPORTED_PROTOCOL": "version",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no_agreement",
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": "no_agreement",
    "NO_CIPHERS_AVAILABLE": "no_agreement",
    "TLSV1_UNRECOGNIZED_NAME": "name_refused",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "no_application_protocol",
    "NO_APPLICATION_PROTOCOL": "no_application_protocol",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "wants_certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "wants_certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "wants_certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "wants_certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "wants_certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "wants_certificate",
    "WRONG_VERSION_NUMBER": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "HTTP_REQUEST": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
}
"""OpenSSL's names of what ends a handshake, by what they mean for us."""


@lru_cache(maxsize=8)
def context(bundles: tuple[str, ...] = (), *, verifies: bool = False, is_lenient: bool = False) -> ssl.SSLContext:
    """As a worker shakes hands.

    Args:
        bundles: PEM files of what is trusted; none: the public roots of the system.
        verifies: whether certificates are checked.
        is_lenient: with versions and ciphers that a worker does not speak, to see what the server does.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = verifies
    made.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    if is_lenient:
        made.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        made.set_ciphers("ALL:@SECLEVEL=0")
    else:
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(CIPHERS)
        made.set_alpn_protocols(["http/1.1"])
    if verifies:
        made.hostname_checks_common_name = False  # as rustls: alternative names alone
        if bundles:
            made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as rustls: any certificate may be an anchor
            for bundle in bundles:
                made.load_verify_locations(bundle)
        else:
            made.load_default_certs()
    return made


def meaning(reason: str, handshake: bytes) -> str:
    """What a failed handshake means: a value of `ALERTS`, or `failed`.

    Args:
        reason: OpenSSL's name.
        handshake: what came in it.
    """
    found = ALERTS.get(reason, "failed")
    if found in ("no_agreement", "failed") and asked_for_certificate(handshake):
        return "wants_certificate"
    return found


def asked_for_certificate(handshake: bytes) -> bool:
    """Whether a TLS 1.2 server asked for a client certificate; in 1.3 that is not to be seen."""
    messages = b""
    while len(handshake) >= 5:
        kind, length = handshake[0], int.from_bytes(handshake[3:5], "big")
        if kind == _CHANGE_CIPHER_RECORD:
            break
        if kind == _HANDSHAKE_RECORD:
            messages += handshake[5 : 5 + length]
        handshake = handshake[5 + length :]
    while len(messages) >= 4:
        if messages[0] == _CERTIFICATE_REQUEST:
            return True
        messages = messages[4 + int.from_bytes(messages[1:4], "big") :]
    return False


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that a server shows."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    is_self_signed: bool

    def covers(self, name: str) -> bool:
        """Whether it is for a host; only its alternative names count, as for workers."""
        wanted = _address(name)
        if wanted is not None:
            return any(_address(own) == wanted for own in self.names)
        return any(_matches(own.lower().rstrip("."), name.lower().rstrip(".")) for own in self.names)

    def days_left(self, now: datetime.datetime) -> float:
        """Until it expires; below zero once it has."""
        return (self.not_after - now).total_seconds() / 86400


def shown(der: bytes | None) -> Shown | None:
    """What a certificate says; None when it can't be read."""
    if not der:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        try:
            alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = [
                *alternative.get_values_for_type(x509.DNSName),
                *map(str, alternative.get_values_for_type(x509.IPAddress)),
            ]
        except x509.ExtensionNotFound:
            names = []
        return Shown(
            _common_name(certificate.subject),
            _common_name(certificate.issuer),
            tuple(names),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            _is_self_signed(certificate),
        )
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def names_shown(names: Sequence[str]) -> str:
    """The first of them."""
    if not names:
        return "no name at all"
    return ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f"CN={found[0].value!s}" if found else name.rfc4514_string()


def _is_self_signed(certificate: x509.Certificate) -> bool:
    if certificate.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] and "." in pattern[2:]
    return pattern == name
