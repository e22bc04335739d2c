# SPDX-License-Identifier: Apache-2.0
"""How do the Admin and the Status API speak TLS, and to whom?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pylae.admin.refusals import Refusals
from pylae.errors import SettingsError
from pylae.pem import as_path
from pylae.settings import Settings

HANDSHAKE_WITHIN_S: Final = 30.0
GOODBYE_WITHIN_S: Final = 0.5
"""How long a client may take to say that it has heard our last word; less than a process that leaves has."""

_TLS12_CIPHERS: Final[dict[str, str]] = {
    "modern": "",
    "intermediate": (
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
    ),
    "old": (
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
        "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305:"
        "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
        "DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256"
    ),
    "fips": (
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
    ),
}
"""Mozilla's recommendations (Server Side TLS 5.7), without what older versions of TLS would need."""


def context_of(settings: Settings, purpose: str) -> ssl.SSLContext:
    """How the TLS listeners of a purpose (`admin`, `status`) meet a client: TLS 1.2 at least.

    Raises:
        SettingsError: a certificate, key, cipher or CA of the settings cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    protocols = settings.ssl_protocols.split()
    has_12 = "TLSv1.2" in protocols and settings.ssl_cipher_suite != "modern"
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if has_12 else ssl.TLSVersion.TLSv1_3
    if has_12 and "TLSv1.3" not in protocols:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if settings.ssl_prefer_server_ciphers == "on":
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if settings.ssl_session_tickets == "off":
        context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols(["http/1.1"])
    ciphers = _TLS12_CIPHERS.get(settings.ssl_cipher_suite, settings.ssl_ciphers)
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise SettingsError(f"ssl_ciphers can't be used: {error}") from error
    for certificate, key in _pairs(settings, purpose):
        try:
            context.load_cert_chain(as_path(certificate), as_path(key))
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{purpose}_ssl_cert and {purpose}_ssl_cert_key can't be used: {error}") from error
    if purpose == "admin" and settings.admin_client_ca:
        _demand_certificates(context, settings.admin_client_ca)
    return context


def _pairs(settings: Settings, purpose: str) -> list[tuple[str, str]]:
    """Certificates and keys: those of the settings, else the ones the supervisor made."""
    certificates, keys = getattr(settings, f"{purpose}_ssl_cert"), getattr(settings, f"{purpose}_ssl_cert_key")
    if certificates:
        return list(zip(certificates, keys, strict=True))
    folder = Path(settings.prefix) / "ssl"
    return [(str(folder / f"{purpose}-kong-default.crt"), str(folder / f"{purpose}-kong-default.key"))]


def _demand_certificates(context: ssl.SSLContext, authorities: list[str]) -> None:
    """Lets in only clients with a certificate that one of these has signed."""
    context.verify_mode = ssl.CERT_REQUIRED
    for authority in authorities:
        try:
            context.load_verify_locations(as_path(authority))
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"admin_client_ca can't be used: {error}") from error
    if not context.cert_store_stats()["x509_ca"]:
        raise SettingsError("admin_client_ca holds no certificate of an authority")


class Door(asyncio.Protocol):
    """Shakes hands with one TLS client, and hands it over; one with whom that fails is logged with its address.

    Args:
        make_protocol: makes what speaks inside.
        context: how to shake hands.
        refusals: told of those who stay outside.
        waiting: holds the doors at which somebody waits.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        refusals: Refusals,
        waiting: set[Door],
    ) -> None:
        self._make_protocol = make_protocol
        self._context = context
        self._refusals = refusals
        self._waiting = waiting
        # asyncio keeps weak references to tasks only.
        self._task: asyncio.Task[None] | None = None
        # What came with the last message of the handshake.
        self._early = bytearray()
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        assert isinstance(transport, asyncio.Transport)
        self._waiting.add(self)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))
        self._task.add_done_callback(lambda _: self._waiting.discard(self))

    def close(self) -> None:
        """Waits no longer."""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Keeps what came before it was handed over."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Remembers that nobody is there any more."""
        del exc
        self._is_lost = True

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("peername")
        try:
            inside = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
                ssl_shutdown_timeout=GOODBYE_WITHIN_S,
            )
        except OSError as error:
            self._refusals.note(str(peer[0]) if peer else "-", f"TLS handshake failed on the Admin API: {_reason(error)}")
            transport.abort()
            return
        except asyncio.CancelledError:
            transport.abort()
            raise
        if inside is None or self._is_lost:
            return
        inner = self._make_protocol()
        inside.set_protocol(inner)
        inner.connection_made(inside)
        if self._early:
            inner.data_received(bytes(self._early))


def _reason(error: BaseException) -> str:
    """What OpenSSL says, without its source file."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    return str(error) or type(error).__name__
