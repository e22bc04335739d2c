# SPDX-License-Identifier: Apache-2.0
"""Has an authority revoked a certificate? Asked of its OCSP responder, else of its revocation list (CRL).

The client's certificate and every one between it and the trusted authority are looked at, each where it says itself.
Answers are kept as long as `cert_cache_ttl` says, and never longer than they say themselves; that there was none, for a
second.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from pylae._core import ChainRefused, RevocationList, verify_client_chain
from pylae.plugins.mtls_auth import ocsp
from pylae.plugins.mtls_auth.certificates import load
from pylae.plugins.mtls_auth.fetch import Unanswered, Way, fetch, tls_context
from pylae.sdk.auth import Verified

if TYPE_CHECKING:
    from cryptography import x509

    from pylae.sdk import Host

MAX_ADDRESSES: Final = 4
"""Of one kind, of one certificate."""
SILENCE_KEPT_MS: Final = 1_000
MAX_LISTS: Final = 256
MAX_SILENT: Final = 1_024


class Revoked(Exception):
    """The certificate is not good any more, or nobody can say that it is; the message says what."""


class Asking(Protocol):
    """How a configuration wants it asked."""

    revocation_check_mode: str
    http_timeout_ms: float
    cert_cache_ttl_ms: float
    proxies: dict[str, tuple[str, int]]
    ssl_verify: bool


class Revocation:
    """What is known of revoked certificates; one object per worker."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._told: Verified[ocsp.Told] = Verified(host.now_ms)
        # (list, fetched at)
        self._lists: OrderedDict[str, tuple[RevocationList, int]] = OrderedDict()
        # (until, why): who was silent a moment ago is not asked by each request.
        self._silent: OrderedDict[Any, tuple[int, str]] = OrderedDict()
        self._in_flight: dict[Any, asyncio.Task[Any]] = {}
        self._tls: dict[bool, Any] = {}

    def __repr__(self) -> str:
        return f"<revocation lists={len(self._lists)}>"

    async def check(self, path: Sequence[bytes], anchor: bytes, asking: Asking) -> int:
        """Until when (ms since the epoch) all of `path` are known to be good; 0 where nothing was asked.

        Args:
            path: DER, the client's certificate first, each followed by its issuer.
            anchor: The issuer of the last.
            asking: How.

        Raises:
            Revoked: one of them is revoked, or `STRICT` asks for more than is known.
        """
        if asking.revocation_check_mode == "SKIP":
            return 0
        is_strict = asking.revocation_check_mode == "STRICT"
        now_ms = self._host.now_ms()
        until_ms = now_ms + int(asking.cert_cache_ttl_ms)
        certificates = [load(der) for der in (*path, anchor)]
        lists: list[RevocationList] = []
        by_list: list[int] = []
        for place, (certificate, issuer) in enumerate(pairwise(certificates)):
            try:
                told = await self._ask(certificate, issuer, asking)
            except Unanswered as silence:
                if is_strict:
                    raise Revoked(f"nobody says whether it is revoked: {silence}") from silence
                self._host.log("notice", f"[mtls-auth] taken for not revoked: {silence}")
                until_ms = min(until_ms, now_ms + SILENCE_KEPT_MS)
                continue
            if told is None:
                if is_strict and place == 0:
                    raise Revoked("nobody says whether it is revoked: it names neither OCSP responder nor revocation list")
            elif isinstance(told, ocsp.Told):
                if told.status != "good":
                    raise Revoked(f"revoked: certificate {place} of the chain is {told.status} to the OCSP responder")
                until_ms = min(until_ms, int(told.until_s * 1000))
            else:
                lists.append(told)
                by_list.append(place)
                if told.next_update_s is not None:
                    until_ms = min(until_ms, max(told.next_update_s * 1000, now_ms + SILENCE_KEPT_MS))
        if lists:
            uncertain = self._compare(path, anchor, lists, by_list, now_ms // 1000, is_strict=is_strict)
            if uncertain is not None:
                self._host.log("notice", f"[mtls-auth] taken for not revoked: {uncertain}")
                until_ms = min(until_ms, now_ms + SILENCE_KEPT_MS)
        return until_ms

    def _compare(
        self,
        path: Sequence[bytes],
        anchor: bytes,
        lists: Sequence[RevocationList],
        by_list: Sequence[int],
        at_s: int,
        *,
        is_strict: bool,
    ) -> str | None:
        """Compares with lists; what is wrong with those, where that may be."""

        def verify(status_of: Any) -> None:
            verify_client_chain(path, [anchor], at_s=at_s, crls=lists, status_of=status_of)

        try:
            verify(None)
            if is_strict:
                if len(by_list) == len(path):
                    verify("all")
                elif 0 in by_list:
                    verify("leaf")
        except ChainRefused as refused:
            kind, text = refused.args
            if is_strict or kind not in ("revocation_unknown", "malformed"):
                raise Revoked(text) from refused
            return str(text)
        return None

    async def _ask(
        self, certificate: x509.Certificate, issuer: x509.Certificate, asking: Asking
    ) -> ocsp.Told | RevocationList | None:
        """What is said of one certificate; None where it names nobody to ask.

        Raises:
            Unanswered: all whom it names are silent.
        """
        silence: Unanswered | None = None
        for url in responders_of(certificate):
            try:
                return await self._told_by(url, certificate, issuer, asking)
            except Unanswered as error:
                silence = Unanswered(f"OCSP responder {url}: {error}")
        for url in lists_of(certificate):
            try:
                return await self._list_at(url, asking)
            except Unanswered as error:
                silence = Unanswered(f"revocation list {url}: {error}")
        if silence is not None:
            raise silence
        return None

    async def _told_by(self, url: str, certificate: x509.Certificate, issuer: x509.Certificate, asking: Asking) -> ocsp.Told:
        question = ocsp.request_of(certificate, issuer)
        digest = Verified.digest(url, question)
        known = self._told.get(digest)
        if known is not None:
            return known

        async def ask() -> ocsp.Told:
            answer = await fetch(url, await self._way(url, asking), question, ocsp.CONTENT_TYPE)
            now_ms = self._host.now_ms()
            told = ocsp.read(answer, certificate, issuer, now_ms / 1000)
            self._told.keep(digest, told, None, min(now_ms + int(asking.cert_cache_ttl_ms), int(told.until_s * 1000)))
            return told

        answered: ocsp.Told = await self._once(digest, ask)
        return answered

    async def _list_at(self, url: str, asking: Asking) -> RevocationList:
        now_ms = self._host.now_ms()
        known = self._lists.get(url)
        if known is not None:
            held, fetched_ms = known
            is_due = held.next_update_s is not None and held.next_update_s * 1000 <= now_ms
            if not is_due and now_ms < fetched_ms + int(asking.cert_cache_ttl_ms):
                self._lists.move_to_end(url)
                return held

        async def ask() -> RevocationList:
            body = await fetch(url, await self._way(url, asking))
            if body.startswith(b"-----BEGIN"):
                body = _der_of(body)
            try:
                held = await asyncio.to_thread(RevocationList, body)
            except ChainRefused as refused:
                raise Unanswered(f"it cannot be read: {refused.args[1]}") from refused
            self._lists[url] = held, self._host.now_ms()
            self._lists.move_to_end(url)
            while len(self._lists) > MAX_LISTS:
                self._lists.popitem(last=False)
            return held

        fetched: RevocationList = await self._once(url, ask)
        return fetched

    async def _once(self, key: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Asks once for all who wait, and not again for a second where nobody answered."""
        silent = self._silent.get(key)
        if silent is not None and self._host.now_ms() < silent[0]:
            raise Unanswered(silent[1])
        task = self._in_flight.get(key)
        if task is None:

            async def run() -> Any:
                try:
                    return await ask()
                except Unanswered as silence:
                    self._silent[key] = self._host.now_ms() + SILENCE_KEPT_MS, str(silence)
                    self._silent.move_to_end(key)
                    while len(self._silent) > MAX_SILENT:
                        self._silent.popitem(last=False)
                    raise
                finally:
                    self._in_flight.pop(key, None)

            task = self._in_flight[key] = asyncio.get_running_loop().create_task(run())
            task.add_done_callback(_retrieve)
        # A client that leaves must not cancel the question of the others.
        return await asyncio.shield(task)

    async def _way(self, url: str, asking: Asking) -> Way:
        context = self._tls.get(asking.ssl_verify)
        if context is None and url.lower().startswith("https:"):
            trusted = tuple(self._host.trusted_certificates)
            context = self._tls[asking.ssl_verify] = await tls_context(trusted, verify=asking.ssl_verify)
        return Way(asking.http_timeout_ms, asking.proxies, context)


def responders_of(certificate: x509.Certificate) -> list[str]:
    """Addresses of OCSP responders (RFC 5280, section 4.2.2.1)."""
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    ways = [way.access_location for way in access if way.access_method == AuthorityInformationAccessOID.OCSP]
    return _addresses(ways)


def lists_of(certificate: x509.Certificate) -> list[str]:
    """Addresses of revocation lists (RFC 5280, section 4.2.1.13)."""
    from cryptography import x509

    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return []
    return _addresses([name for point in points for name in point.full_name or ()])


def _addresses(names: Sequence[x509.GeneralName]) -> list[str]:
    urls = [str(name.value) for name in names]
    return [url for url in urls if url.lower().startswith(("http://", "https://"))][:MAX_ADDRESSES]


def _der_of(pem: bytes) -> bytes:
    """Some servers send PEM, against RFC 5280."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
    except ValueError as error:
        raise Unanswered(f"it cannot be read: {error}") from error


def _retrieve(task: asyncio.Task[Any]) -> None:
    # Everyone who waited may be gone; asyncio would complain of an exception nobody saw.
    if not task.cancelled():
        task.exception()
