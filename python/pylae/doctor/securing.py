# SPDX-License-Identifier: Apache-2.0
"""Is the connection encrypted as both sides want it, and is the server who it says it is?"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from pylae.doctor.answers import Answer, NoAnswer
from pylae.doctor.authors import says_it_wants_a_certificate, says_it_wants_tls
from pylae.doctor.findings import Finding, Hop, shown_bytes
from pylae.doctor.handshakes import ALERTS, Shown, names_shown
from pylae.doctor.languages import NO_PROXY_LINE, looks_like_tls
from pylae.doctor.looks import Look, Secured
from pylae.explain import calls
from pylae.explain.words import quoted

SOON_DAYS: Final = 30
_EXPIRED: Final = "10"
_NOT_YET: Final = "9"
_NAME_MISMATCH: Final = ("62", "64")


def judge(look: Look, now: datetime.datetime) -> list[Finding]:
    """What is wrong with TLS between the gateway and one address."""
    found = plain_to_tls(look)
    secured = look.secured
    if secured is None:
        return found
    if secured.failure:
        return [*found, _failed(look, secured)]
    if secured.distrust:
        return [*found, _distrusted(look, secured, now)]
    found += _wants_certificate(look)
    certificate = secured.certificate
    if look.aim.verifies and certificate is not None and 0 <= certificate.days_left(now) < SOON_DAYS:
        found.append(
            _finding(
                look,
                "upstream_certificate_rejected",
                "certificate_expires_soon",
                f"The certificate of {look.place} expires in {certificate.days_left(now):.0f} days.",
                0.9,
                [f"{quoted(certificate.subject)} is valid until {_day(certificate)}, and tls_verify of the Service is on"],
                ["renew the certificate of the server"],
                is_broken=False,
            )
        )
    return found


# === plain HTTP where TLS is spoken ===


def plain_to_tls(look: Look) -> list[Finding]:
    """The Service says http, and the port speaks TLS."""
    aim, answer, spoken = look.aim, look.answer, look.spoken
    if isinstance(answer, Answer) and says_it_wants_tls(answer) and (aim.is_tls or spoken is None or not spoken.tls):
        return [_plain_further_behind(look, answer)]
    if aim.is_tls or answer is None:
        return []
    cure = ["have the gateway speak TLS to it:", aim.patch(protocol="https")]
    if isinstance(answer, Answer):
        if not says_it_wants_tls(answer):
            return []
        evidence = [
            f"plain HTTP to {look.place} was answered {answer.status}, and the body says that TLS is spoken there",
            "a TLS handshake on another connection was answered in TLS",
        ]
        return [_finding(look, "plain_http_to_tls_port", "plain_http_to_tls", _plain_summary(look), 0.97, evidence, cure)]
    if looks_like_tls(answer.received):
        evidence = [f"plain HTTP to {look.place} was answered with a TLS record: {shown_bytes(answer.received, 8)}"]
        is_sure = spoken is not None and spoken.tls
        evidence += ["a TLS handshake on another connection was answered in TLS"] if is_sure else []
        confidence = 0.97 if is_sure else 0.75
        probes = [] if is_sure else [calls.show_certificate(str(look.place), aim.server_name)]
        summary = _plain_summary(look)
        return [_finding(look, "protocol_mismatch", "plain_http_to_tls", summary, confidence, evidence, cure, probes=probes)]
    if spoken is not None and spoken.tls and not spoken.http:
        cause = {"rst": "reset", "timeout": "read_timeout"}.get(answer.how, "closed_before_headers")
        evidence = [
            f"plain HTTP to {look.place} got no answer ({answer.how})",
            "a TLS handshake on another connection was answered in TLS",
        ]
        return [_finding(look, cause, "plain_http_to_tls", _plain_summary(look), 0.95, evidence, cure)]
    return []


def _plain_further_behind(look: Look, answer: Answer) -> Finding:
    """Who was called speaks what the Service says, and passes on what its own server said to it."""
    shown = (
        "it was spoken to in TLS, so that the words are meant for somebody else"
        if look.aim.is_tls
        else f"a TLS handshake with {look.place} is not answered in TLS, so that the words were passed on from behind it"
    )
    return _finding(
        look,
        "plain_http_to_tls_port",
        "plain_http_to_tls_behind",
        f"{look.place} spoke plain HTTP to a port behind it that speaks TLS, and passed on what that answered.",
        0.75,
        [f"{look.place} answered {answer.status}, and the body says that TLS is spoken where plain HTTP came", shown],
        [
            "let the load balancer there speak TLS to its server (nginx: `proxy_pass https://`, HAProxy: `ssl` on the server "
            "line, an ingress: its backend-protocol), or call a port there that speaks plain HTTP",
            "the protocol of the Service is not the cause",
        ],
        probes=[look.aim.curl(look.place), "the same from the load balancer's machine to its server, by http and by https"],
        hop="second_lb",
    )


def _plain_summary(look: Look) -> str:
    return f"The Service sends plain HTTP to {look.place}, where TLS is spoken."


# === the handshake ===


def _failed(look: Look, secured: Secured) -> Finding:
    aim, place, spoken = look.aim, look.place, look.spoken
    said = f"the handshake with {place} failed: {secured.reason or secured.detail or secured.failure}"
    is_tls = looks_like_tls(look.first_bytes)
    if not is_tls and spoken is not None and spoken.http and not spoken.tls:
        evidence = [said, "a plain HTTP request on another connection was answered"]
        if look.first_bytes:
            evidence.append(f"the server's first bytes were {quoted(shown_bytes(look.first_bytes, 32))}, no TLS")
        return _finding(
            look,
            "upstream_tls_failed",
            "tls_to_plain",
            f"The Service speaks TLS to {place}, where plain HTTP is spoken.",
            0.97,
            evidence,
            ["have the gateway speak plain HTTP to it:", aim.patch(protocol="http")],
        )
    if not is_tls and spoken is not None and spoken.after_proxy_line:
        return _finding(
            look,
            "upstream_tls_failed",
            "expects_proxy_protocol",
            f"{place} expects the PROXY protocol before TLS, which the gateway does not send.",
            0.9,
            [said, "with a line of the PROXY protocol before it the same handshake is answered"],
            [NO_PROXY_LINE],
        )
    judge_by: dict[str, Callable[[Look, Secured, str], Finding]] = {
        "version": _version,
        "no_agreement": _version,
        "name_refused": _name_refused,
        "no_application_protocol": _http2_only,
        "wants_certificate": _certificate_wanted,
    }
    if secured.failure in judge_by:
        return judge_by[secured.failure](look, secured, said)
    if secured.lenient_version:
        return _version(look, secured, said)
    evidence = [said]
    if look.first_bytes and not is_tls:
        evidence.append(f"the server's first bytes were {quoted(shown_bytes(look.first_bytes, 32))}, no TLS")
    return _finding(
        look,
        "upstream_tls_failed",
        "handshake_failed",
        f"TLS with {place} fails.",
        0.6,
        evidence,
        ["look into the log of the server, or of the load balancer that ends TLS there, at this second"],
        probes=[calls.show_certificate(str(place), aim.server_name)],
    )


def _version(look: Look, secured: Secured, said: str) -> Finding:
    evidence = [said, "the gateway offers TLS 1.2 and 1.3, with ECDHE and AES-GCM or ChaCha20"]
    if secured.lenient_version:
        evidence.append(f"offered all that this machine's OpenSSL knows, the server agrees to {secured.lenient_version}")
    return _finding(
        look,
        "upstream_tls_failed",
        "tls_no_common_version_or_cipher",
        f"{look.place} and the gateway share no TLS version or cipher.",
        0.95 if secured.lenient_version else 0.7,
        evidence,
        ["have the server offer TLS 1.2 or 1.3 with an ECDHE cipher and AES-GCM"],
        probes=[] if secured.lenient_version else [calls.show_certificate(str(look.place), look.aim.server_name)],
    )


def _name_refused(look: Look, secured: Secured, said: str) -> Finding:
    del secured
    name = look.aim.server_name
    return _finding(
        look,
        "upstream_tls_failed",
        "server_name_refused",
        f"{look.place} does not know the name {quoted(name)} that the gateway asks for.",
        0.95,
        [said, f"the name in the handshake (SNI) is the one of the Host header: {quoted(name)}"],
        [
            "give the Service, or the host_header of its Upstream, a name that the server knows",
            look.aim.patch(host="NAME"),
        ],
    )


def _http2_only(look: Look, secured: Secured, said: str) -> Finding:
    del secured
    return _finding(
        look,
        "upstream_tls_failed",
        "http2_only",
        f"{look.place} does not speak HTTP/1.1, and the gateway offers nothing else.",
        0.95,
        [said, "the handshake offered `http/1.1` (ALPN), and the server refused it"],
        ["have the server offer http/1.1 beside h2"],
    )


def _certificate_wanted(look: Look, secured: Secured, said: str) -> Finding:
    is_sure = secured.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED" or secured.failure == "wants_certificate"
    return _certificate_finding(
        look, [said, "the server asked for a client certificate in the handshake"], 0.9 if is_sure else 0.7
    )


def _wants_certificate(look: Look) -> list[Finding]:
    """The refusal that comes after the handshake: an alert of TLS 1.3, or a page of nginx."""
    answer = look.answer
    if isinstance(answer, NoAnswer) and answer.how == "handshake":
        reason = answer.detail.split(" ")[0]
        if ALERTS.get(reason) == "wants_certificate":
            return [_certificate_finding(look, [f"after the handshake the server sent the alert {reason}"], 0.95)]
    if isinstance(answer, Answer) and says_it_wants_a_certificate(answer):
        evidence = [f"the server answered {answer.status}, and the body says that a client certificate is missing or wrong"]
        # A load balancer passes these words on from a server behind it.
        return [_certificate_finding(look, [*evidence, "it may pass on what a server behind it said"], 0.75)]
    return []


def _certificate_finding(look: Look, evidence: list[str], confidence: float) -> Finding:
    has_one = bool(look.aim.service.get("client_certificate"))
    told = ["the Service names a client certificate, which this version does not show to it"] if has_one else []
    return _finding(
        look,
        "upstream_wants_certificate",
        "client_certificate_wanted",
        f"{look.place} wants a client certificate (mTLS), and got none.",
        confidence,
        [*evidence, *told],
        [
            "let the server take the gateway without one (by its address, or on another port): this version shows no client "
            "certificate to upstreams, `client_certificate` of a Service has no effect yet",
            "or put a proxy between that has a certificate (nginx with proxy_ssl_certificate, stunnel), and call that:",
            look.aim.patch(host="PROXY", port="PORT"),
        ],
    )


# === the certificate ===


def _distrusted(look: Look, secured: Secured, now: datetime.datetime) -> Finding:
    certificate, code = secured.certificate, secured.distrust.partition(":")[0]
    name = look.aim.server_name
    evidence = [f"OpenSSL says: {secured.distrust}"]
    if certificate is not None:
        evidence.append(
            f"the server shows {quoted(certificate.subject)} of {quoted(certificate.issuer)}, "
            f"for {names_shown(certificate.names)}, valid until {_day(certificate)}"
        )
    off = look.aim.patch(tls_verify=False)
    renew = ["renew the certificate of the server", f"until then, at the price of not knowing whom you talk to: {off}"]
    if code == _EXPIRED or (certificate is not None and certificate.days_left(now) < 0):
        return _rejected(look, "certificate_expired", "has expired", 0.97, evidence, renew)
    if code == _NOT_YET:
        evidence.append("or the clock of this machine is wrong")
        return _rejected(look, "certificate_not_yet_valid", "is not valid yet", 0.9, evidence, renew)
    if code in _NAME_MISMATCH:
        evidence.append(f"the gateway asks for {quoted(name)}, the host of the Host header it sends")
        cure = [
            "give the Service, or the host_header of its Upstream, a name of the certificate",
            look.aim.patch(host="NAME-OF-THE-CERTIFICATE"),
            "or renew the certificate with that name among its alternative names",
        ]
        return _rejected(look, "certificate_wrong_name", f"is not for {quoted(name)}", 0.95, evidence, cure)
    if certificate is not None and not certificate.covers(name):
        evidence.append(f"nor is it for {quoted(name)}, the host of the Host header")
    trusted = ", ".join(look.aim.bundles) or "the public roots"
    evidence.append(f"the gateway trusts {trusted} (lua_ssl_trusted_certificate)")
    what = (
        "is signed by itself" if certificate is not None and certificate.is_self_signed else "is of an authority not trusted here"
    )
    finding = (
        "certificate_self_signed" if certificate is not None and certificate.is_self_signed else "certificate_unknown_authority"
    )
    cure = [
        "add the authority's certificate to lua_ssl_trusted_certificate and restart, or have the server send its whole chain",
        f"until then, at the price of not knowing whom you talk to: {off}",
    ]
    return _rejected(look, finding, what, 0.95, evidence, cure)


def _rejected(look: Look, finding: str, what: str, confidence: float, evidence: list[str], cure: list[str]) -> Finding:
    return _finding(
        look, "upstream_certificate_rejected", finding, f"The certificate of {look.place} {what}.", confidence, evidence, cure
    )


def _finding(
    look: Look,
    cause: str,
    finding: str,
    summary: str,
    confidence: float,
    evidence: list[str],
    cure: list[str],
    *,
    probes: list[str] | None = None,
    is_broken: bool = True,
    hop: Hop = "upstream",
) -> Finding:
    is_answered = cause in ("plain_http_to_tls_port", "upstream_wants_certificate")
    in_clear = cause in ("plain_http_to_tls_port", "protocol_mismatch", "closed_before_headers", "reset", "read_timeout")
    return Finding(
        hop=hop,
        phase="wait_for_answer" if in_clear else "tls_handshake",
        cause=cause,
        finding=finding,
        summary=summary,
        confidence=confidence,
        evidence=tuple(evidence),
        cure=tuple(cure),
        probes=tuple(probes or ()),
        is_broken=is_broken,
        status=look.answer.status if is_answered and isinstance(look.answer, Answer) else None,
        attempts=(look.attempt(),),
    )


def _day(certificate: Shown) -> str:
    return certificate.not_after.strftime("%Y-%m-%d %H:%M UTC")
