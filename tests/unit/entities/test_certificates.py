# SPDX-License-Identifier: Apache-2.0
"""Which certificates and keys are taken?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pylae import entities
from pylae.errors import SchemaViolation

EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def _pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def _certificate(key: Any, *, is_ca: bool = False, days: int = 1) -> str:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.com")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=days))
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _error(table: str, values: dict[str, Any]) -> str:
    with pytest.raises(SchemaViolation) as caught:
        entities.schema(table).insert(values)
    return caught.value.message


def test_a_certificate_with_its_key_is_taken() -> None:
    values = {"cert": _certificate(EC_KEY), "key": _pem(EC_KEY), "cert_alt": _certificate(RSA_KEY), "key_alt": _pem(RSA_KEY)}
    assert entities.schema("certificates").insert(values)["cert_alt"] == values["cert_alt"]


def test_a_certificate_with_another_key_is_refused() -> None:
    message = _error("certificates", {"cert": _certificate(EC_KEY), "key": _pem(OTHER_EC_KEY)})
    assert message == "schema violation (certificate does not match key)"


def test_the_alternative_must_be_whole_and_of_another_type() -> None:
    first = {"cert": _certificate(EC_KEY), "key": _pem(EC_KEY)}
    assert "'cert_alt', 'key_alt'" in _error("certificates", {**first, "cert_alt": _certificate(RSA_KEY)})
    second = {"cert_alt": _certificate(OTHER_EC_KEY), "key_alt": _pem(OTHER_EC_KEY)}
    assert "need to have different type" in _error("certificates", {**first, **second})
    wrong = {"cert_alt": _certificate(RSA_KEY), "key_alt": _pem(OTHER_EC_KEY)}
    assert "alternative certificate does not match key" in _error("certificates", {**first, **wrong})


def test_a_ca_certificate_is_known_by_its_digest() -> None:
    text = _certificate(EC_KEY, is_ca=True)
    row = entities.schema("ca_certificates").insert({"cert": text})
    assert row["cert_digest"] == x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256()).hex()


def test_what_is_no_ca_certificate_is_refused() -> None:
    assert "does not appear to be a CA" in _error("ca_certificates", {"cert": _certificate(EC_KEY)})
    assert "certificate expired" in _error("ca_certificates", {"cert": _certificate(EC_KEY, is_ca=True, days=-1)})
    two = _certificate(EC_KEY, is_ca=True) * 2
    assert "only one certificate at a time" in _error("ca_certificates", {"cert": two})
