# SPDX-License-Identifier: Apache-2.0
"""What does a client's certificate say of its holder?"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

MAX_NAMES: Final = 64
MAX_NAME_CHARACTERS: Final = 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CERTIFICATES: Final = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


class Unreadable(Exception):
    """The certificate does not keep to its format."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a certificate is about.

    Attributes:
        names: the Subject Alternative Names, or the Common Name where there are none; those with control characters left out.
        dn: the subject as RFC 4514 writes it, control characters escaped.
        common_name: the first one; None without.
        san: the Subject Alternative Names, comma separated; None without.
        issuer: who issued it, as RFC 4514 writes it.
        fingerprint: SHA-256, in hex.
        id: a UUID that is this certificate's alone.
        not_after_s: seconds since the epoch.
    """

    names: tuple[str, ...]
    dn: str
    common_name: str | None
    san: str | None
    issuer: str
    fingerprint: str
    id: str
    not_after_s: float


def load(der: bytes) -> x509.Certificate:
    """Reads a certificate.

    Raises:
        Unreadable: it is none.
    """
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise Unreadable(str(error)) from error


def is_constrained(authorities: Sequence[bytes]) -> bool:
    """Whether one of these (DER) may vouch for some names only (RFC 5280, section 4.2.1.10).

    Raises:
        Unreadable: one cannot be read.
    """
    from cryptography import x509

    for der in authorities:
        try:
            load(der).extensions.get_extension_for_class(x509.NameConstraints)
        except x509.ExtensionNotFound:
            continue
        except (ValueError, TypeError) as error:
            raise Unreadable(str(error)) from error
        return True
    return False


def holder_of(der: bytes, *, has_checked_common_name: bool = True) -> Holder:
    """Reads what a certificate says of its holder.

    Args:
        der: The certificate.
        has_checked_common_name: Whether a Common Name counts: constraints of an authority do not cover it.

    Raises:
        Unreadable: it cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    certificate = load(der)
    try:
        subject, issuer = certificate.subject, certificate.issuer
        alternatives: list[str] | None = None
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            pass
        else:
            alternatives = [text for name in extension.value if (text := _text_of(name)) is not None]
        common_names = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        common_name = common_names[0] if common_names and _is_plain(common_names[0]) else None
        dn, issuer_dn = escaped(subject.rfc4514_string()), escaped(issuer.rfc4514_string())
        not_after_s = certificate.not_valid_after_utc.timestamp()
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Unreadable(str(error)) from error
    if not has_checked_common_name:
        common_name = None
    fingerprint = certificate.fingerprint(SHA256()).hex()
    if alternatives is None:
        names: tuple[str, ...] = (common_name,) if common_name is not None else ()
    else:
        names = tuple(name for name in alternatives if _is_plain(name))[:MAX_NAMES]
    return Holder(
        names=names,
        dn=dn,
        common_name=common_name,
        san=None if alternatives is None else ",".join(escaped(name) for name in alternatives[:MAX_NAMES]),
        issuer=issuer_dn,
        fingerprint=fingerprint,
        id=str(uuid.uuid5(_CERTIFICATES, fingerprint)),
        not_after_s=not_after_s,
    )


def escaped(text: str) -> str:
    """The text with what may not stand in a header field as RFC 4514 escapes it: a backslash and two hex digits per byte."""
    return _CONTROL.sub(lambda found: "".join(f"\\{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass")), text)


def _text_of(name: x509.GeneralName) -> str | None:
    from cryptography import x509

    if isinstance(name, (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)):
        return name.value
    if isinstance(name, x509.IPAddress):
        return str(name.value)
    if isinstance(name, x509.DirectoryName):
        return name.value.rfc4514_string()
    return None


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and _CONTROL.search(name) is None
