# SPDX-License-Identifier: Apache-2.0
"""What happens when one address is spoken to as the gateway would? Only looks; `reaching`, `securing` and `answering` judge."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from pylae.doctor import handshakes
from pylae.doctor.aims import HARMLESS, Aim
from pylae.doctor.answers import Answer, NoAnswer, Question, ask
from pylae.doctor.authors import says_it_wants_tls
from pylae.doctor.findings import shown_bytes
from pylae.doctor.handshakes import Shown
from pylae.doctor.languages import Spoken, spoken_at
from pylae.doctor.links import HandshakeFailed, Link, LinkEnded, Place


@dataclass(slots=True)
class Secured:
    """What came of the handshake.

    Attributes:
        failure: what it means that it failed, a value of `handshakes.ALERTS`; empty when it did not.
        distrust: OpenSSL's words for why the certificate is not accepted, where the gateway checks it.
        lenient_version: what the server agrees to when it is offered old versions and ciphers, too.
    """

    version: str = ""
    alpn: str = ""
    cipher: str = ""
    certificate: Shown | None = None
    failure: str = ""
    reason: str = ""
    detail: str = ""
    distrust: str = ""
    lenient_version: str = ""
    took_ms: float = 0.0


@dataclass(slots=True)
class Look:
    """One address, and what it did.

    Attributes:
        not_connected: why there was no connection.
        answer: to GET where there is one, else to HEAD; of a user's own request that.
        again: what a second request on the same connection met; None: there was none.
        method: that was answered.
        spoken: which languages the port speaks; only asked where it did not answer in ours.
    """

    aim: Aim
    place: Place
    connect_ms: float | None = None
    not_connected: LinkEnded | None = None
    secured: Secured | None = None
    answer: Answer | NoAnswer | None = None
    again: Answer | NoAnswer | None = None
    spoken: Spoken | None = None
    first_bytes: bytes = b""
    method: str = ""

    @property
    def is_secured(self) -> bool:
        """Whether there is a TLS connection that the gateway would use, too."""
        return self.secured is not None and not self.secured.failure and not self.secured.distrust

    def attempt(self) -> dict[str, Any]:
        """As an attempt of a record."""
        told: dict[str, Any] = {"host": self.aim.host, "address": str(self.place)}
        if self.connect_ms is not None:
            told["connect_ms"] = round(self.connect_ms, 3)
        if self.not_connected is not None:
            told["ended"] = self.not_connected.how
        if self.secured is not None:
            certificate = self.secured.certificate
            told["tls_ms"] = round(self.secured.took_ms, 3)
            told["tls"] = {
                "version": self.secured.version or None,
                "alpn": self.secured.alpn or None,
                "sni": self.aim.server_name,
                "verified": self.aim.verifies and self.is_secured,
                "subject": certificate.subject if certificate else None,
                "issuer": certificate.issuer if certificate else None,
                "names": list(certificate.names[:8]) if certificate else [],
                "not_after": certificate.not_after.isoformat().replace("+00:00", "Z") if certificate else None,
                "alert": self.secured.reason or None,
            }
        if isinstance(self.answer, Answer):
            told |= {"status": self.answer.status, "head_ms": round(self.answer.took_ms, 3), "head_bytes": self.answer.head_bytes}
        elif self.answer is not None:
            told |= {"ended": self.answer.how, "first_bytes": shown_bytes(self.answer.received)}
        elif self.first_bytes:
            told["first_bytes"] = shown_bytes(self.first_bytes)
        return told


async def look(aim: Aim, place: Place) -> Look:
    """Speaks to one address; never raises for what a server does."""
    seen = Look(aim, place, method=aim.method)
    try:
        link = await Link.connect(place, aim.connect_patience_s)
    except LinkEnded as ended:
        seen.not_connected = ended
        return seen
    with link:
        seen.connect_ms = link.connect_ms
        link.extend(aim.patience_s)
        if aim.is_tls:
            seen.secured = await _secure(link, aim)
            seen.first_bytes = link.first_bytes
        if aim.speaks_http and (not aim.is_tls or seen.is_secured):
            link.extend(aim.patience_s)
            seen.answer = await ask(link, aim.question())
            if _may_follow(seen.answer, aim):
                link.extend(aim.patience_s)
                seen.again = await ask(link, aim.question("GET"))
    await _look_closer(seen)
    return seen


def _may_follow(answer: Answer | NoAnswer, aim: Aim) -> bool:
    return (
        isinstance(answer, Answer) and aim.method == "HEAD" and answer.stays_open and not answer.problem and not answer.has_more
    )


async def _secure(link: Link, aim: Aim) -> Secured:
    """Shakes hands as the gateway does: whether the certificate is accepted is asked on a second connection."""
    found = await _shake(link, aim, verifies=False)
    if found.failure or not aim.verifies:
        return found
    try:
        with await Link.connect(link.place, aim.patience_s) as second:
            checked = await _shake(second, aim, verifies=True)
    except LinkEnded as ended:
        checked = Secured(failure="ended", detail=str(ended))
    if checked.reason == "CERTIFICATE_VERIFY_FAILED":
        found.distrust = checked.detail
    elif checked.failure:
        found.failure, found.reason, found.detail = checked.failure, checked.reason, checked.detail
    return found


async def _shake(link: Link, aim: Aim, *, verifies: bool, is_lenient: bool = False) -> Secured:
    found, started_s = Secured(), time.monotonic()
    try:
        context = handshakes.context(aim.bundles, verifies=verifies, is_lenient=is_lenient)
        await link.start_tls(context, aim.server_name or aim.host)
    except HandshakeFailed as error:
        found.reason, found.detail = error.reason, error.detail
        found.failure = handshakes.meaning(error.reason, link.handshake)
        return found
    except LinkEnded as ended:
        found.failure, found.detail = f"ended_{ended.how}", str(ended)
        return found
    except (ValueError, OSError) as error:
        found.failure, found.detail = "unusable", str(error)
        return found
    found.took_ms = (time.monotonic() - started_s) * 1000
    tls = link.tls
    if tls is not None:
        found.version, found.alpn = tls.version() or "", tls.selected_alpn_protocol() or ""
        found.cipher = (tls.cipher() or ("",))[0]
        found.certificate = handshakes.shown(tls.getpeercert(binary_form=True))
    return found


async def _look_closer(seen: Look) -> None:
    """Asks more where the first look shows that something is wrong, and not what."""
    aim, place, secured, answer = seen.aim, seen.place, seen.secured, seen.answer
    if secured is not None and secured.failure:
        if secured.failure in ("version", "no_agreement", "failed", "ended_rst", "ended_fin"):
            with contextlib.suppress(LinkEnded), await Link.connect(place, aim.patience_s) as link:
                secured.lenient_version = (await _shake(link, aim, verifies=False, is_lenient=True)).version
        seen.spoken = await spoken_at(place, aim.host_header, aim.path, aim.patience_s)
    elif isinstance(answer, NoAnswer) and answer.how != "handshake":
        seen.spoken = await spoken_at(place, aim.host_header, aim.path, aim.patience_s)
    elif isinstance(answer, Answer) and aim.method == "HEAD":
        # What HEAD leaves out tells who wrote it, and whether it ends.
        told = seen.again if isinstance(seen.again, Answer) else await _ask_anew(aim, place, aim.question("GET"))
        if told is not None:
            seen.answer, seen.method = told, "GET"
    if isinstance(seen.answer, Answer) and not aim.is_tls and says_it_wants_tls(seen.answer):
        # A load balancer passes on what its own server said to it: only a handshake tells whose words they are.
        seen.spoken = await spoken_at(place, aim.host_header, aim.path, aim.patience_s)


async def _ask_anew(aim: Aim, place: Place, question: Question) -> Answer | NoAnswer | None:
    assert question.method in HARMLESS
    try:
        with await Link.connect(place, aim.patience_s) as link:
            if aim.is_tls and (await _shake(link, aim, verifies=False)).failure:
                return None
            return await ask(link, question)
    except LinkEnded:
        return None
