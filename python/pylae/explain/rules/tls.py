# SPDX-License-Identifier: Apache-2.0
"""Why did the TLS handshake with the upstream fail?"""

from __future__ import annotations

from typing import Final

from pylae.explain import banners, calls
from pylae.explain.case import Case, Finding
from pylae.explain.rules.rewritten import scheme_changed
from pylae.explain.words import escaped, ms, quoted

_ALERTS: Final = {
    "unrecognized_name": (
        "sni_refused",
        "serves nothing by the name that we asked for in the handshake (SNI): {sni}",
        "give the Service the host name that the server has a certificate for:",
    ),
    "protocol_version": (
        "no_common_version",
        "speaks no version of TLS that we speak (1.2 and 1.3)",
        "let the server speak TLS 1.2 or 1.3",
    ),
    "insufficient_security": (
        "no_common_cipher",
        "wants stronger ciphers than those we offer",
        "let the server accept ECDHE with AES-GCM or ChaCha20-Poly1305",
    ),
    "no_application_protocol": (
        "no_common_alpn",
        "does not offer HTTP/1.1 in its TLS handshake (ALPN): it speaks HTTP/2 alone",
        "let the server offer http/1.1 beside h2",
    ),
    "handshake_failure": (
        "no_common_cipher",
        "found no cipher, key or version in common with us, or wants a client certificate, or knows no such name",
        "let the server accept ECDHE with AES-GCM or ChaCha20-Poly1305; some servers say the same to a name that they don't know",
    ),
    "internal_error": (
        "tls_server_error",
        "failed itself in the handshake, or has no certificate for the name {sni}",
        "look into the server's log at that second; give the Service the host name that the server has a certificate for:",
    ),
    "access_denied": ("tls_access_denied", "denied us access in the handshake", "look at what the server asks of its clients"),
}
"""By the alert that the server sent: the finding, what it means, and a cure."""

_NO_TLS: Final = ("does not speak tls", "wrong version number", "invalidmessage", "corrupt message", "invalidcontenttype")
"""What the TLS library says of bytes that are no TLS."""

_REJECTED: Final = {
    "10:": ("certificate_expired", "has expired"),
    "9:": ("certificate_not_yet_valid", "is not valid yet"),
    "62:": ("certificate_wrong_name", "is not for the name that we called"),
    "18:": ("certificate_self_signed", "is self-signed"),
    "19:": ("certificate_unknown_ca", "was issued by an authority that we don't know"),
    "20:": ("certificate_unknown_ca", "was issued by an authority that we don't know, or came without its intermediate"),
    "21:": ("certificate_unknown_ca", "was issued by an authority that we don't know, or came without its intermediate"),
    "23:": ("certificate_revoked", "was revoked"),
}
"""By OpenSSL's number: the finding, and in words."""


def failed(case: Case) -> Finding:
    """`upstream_tls_failed`."""
    said = _said(case)
    if "no server name" in case.hints or "invalid server name" in case.hints:
        return Finding(
            hop="gateway",
            name="no_server_name",
            summary=f"{quoted(case.attempt.host)} can't be the name of a TLS server.",
            confidence=0.9,
            evidence=said,
            cure=["give the Service a proper host name:", case.patch_service(host="HOST")],
        )
    plain = _not_tls(case, said)
    if plain is not None:
        return plain
    if any(words in case.hints for words in ("incompatible", "unsupported protocol", "no version or cipher in common")):
        return Finding(
            hop="upstream",
            name="no_common_version",
            summary=f"{case.server} and we have no version or cipher of TLS in common.",
            confidence=0.85,
            evidence=said,
            cure=["let the server speak TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305"],
        )
    for alert, (name, words, cure) in _ALERTS.items():
        if alert in case.hints or alert.replace("_", "") in case.hints:
            return _alerted(case, name, words, cure)
    return _broke_off(case, said)


def _said(case: Case) -> list[str]:
    tls = case.attempt.tls
    lines = []
    if case.attempt.connect_ms is not None:
        lines.append(f"TCP to {case.server} was connected in {ms(case.attempt.connect_ms)}")
    if tls.alert:
        lines.append(f"TLS alert: {escaped(tls.alert)}")
    if case.detail:
        lines.append(f"the handshake ended with: {escaped(case.detail)}")
    if tls.sni:
        lines.append(f"we asked for the name {quoted(tls.sni)}")
    return lines


def _not_tls(case: Case, said: list[str]) -> Finding | None:
    """What came back is no TLS record."""
    banner = banners.told(case.first_bytes_hex, case.attempt.first_bytes)
    is_garbled = any(words in case.hints for words in _NO_TLS) and "malformed tls message" not in case.hints
    if (banner is not None and banner.is_tls) or (banner is None and not is_garbled):
        return None
    shown = case.first_bytes()
    evidence = [*said, *([shown] if shown else []), "a TLS server begins with 16 03 (or 15 03 for an alert)"]
    if banner is not None and not banner.is_http and not banner.is_tls:
        return Finding(
            hop="upstream",
            name=banner.key,
            summary=f"{case.server} speaks {banner.protocol}, neither TLS nor HTTP: the port is not the web server's.",
            confidence=0.9,
            evidence=evidence,
            cure=["give the Service the port of the web server:", case.patch_target(port="PORT")],
        )
    changed = scheme_changed(case, "https", evidence)
    if changed is not None:
        return changed
    is_http = banner is not None and banner.is_http
    return Finding(
        hop="upstream",
        name="tls_to_plain",
        summary=f"We spoke TLS to {case.server}, and that port speaks plain {'HTTP' if is_http else 'text, not TLS'}.",
        confidence=0.95 if is_http else 0.8,
        evidence=evidence,
        cure=[
            "call the Service in the clear:",
            case.patch_service(protocol="http"),
            "or give it the port on which the server speaks TLS:",
            case.patch_target(port=443),
        ],
    )


def _alerted(case: Case, name: str, words: str, cure: str) -> Finding:
    asked = case.attempt.tls.sni
    sni = quoted(asked) if asked else "none, as the host is an address" if not case.is_named else quoted(case.attempt.host)
    is_sent_by_us = (case.attempt.tls.alert or "").startswith("sent")
    lines = [cure]
    if name in ("sni_refused", "tls_server_error"):
        lines += [
            case.patch_service(host="HOST"),
            "or keep the client's Host, if it is the server's name:",
            case.patch_route(preserve_host=True),
        ]
    evidence = [*_said(case), *([] if is_sent_by_us else ["the alert came from the far end itself"])]
    return Finding(
        hop="upstream",
        name=name,
        summary=f"{case.server} {words.format(sni=sni)}.",
        confidence=0.75 if is_sent_by_us else 0.85,
        evidence=evidence,
        cure=lines,
        probes=[calls.show_certificate(case.address, case.attempt.tls.sni or case.attempt.host), case.doctor()],
    )


def _broke_off(case: Case, said: list[str]) -> Finding:
    """The server went away in the handshake."""
    is_reset = "reset" in case.hints or "104" in case.hints or case.attempt.ended == "rst"
    is_closed = "closed" in case.hints or "eof" in case.hints or case.attempt.ended == "fin"
    if not is_reset and not is_closed:
        return Finding(
            hop="upstream",
            name="tls_failed",
            summary=f"The TLS handshake with {case.server} failed.",
            confidence=0.7,
            evidence=said,
            cure=["look into the server's log at that second"],
            probes=[calls.show_certificate(case.address, case.attempt.host), case.doctor()],
        )
    did = "reset" if is_reset else "closed"
    if case.attempt.tls.wants_certificate:
        return Finding(
            hop="upstream",
            name="closed_without_client_certificate",
            summary=f"{case.server} asked for a client certificate (mTLS), got none, and {did} the connection.",
            confidence=0.75,
            evidence=[*said, f"it had asked for a client certificate, and {did} the connection without an alert"],
            cure=without_certificate(case),
            probes=[calls.show_certificate(case.address, case.attempt.tls.sni or case.attempt.host), case.doctor()],
        )
    return Finding(
        hop="upstream",
        name="tls_reset_in_handshake" if is_reset else "tls_closed_in_handshake",
        summary=f"{case.server} {did} the connection in the middle of the TLS handshake.",
        confidence=0.6 if is_reset else 0.65,
        evidence=[*said, f"it {did} the connection without an alert"],
        cure=[
            "if the port speaks plain HTTP:",
            case.patch_service(protocol="http"),
            "if the server knows certain names alone, call it by one of them:",
            case.patch_service(host="HOST"),
            (
                "else look for a crash, a full process table or a list of allowed addresses at the server, or a "
                "firewall that inspects TLS"
            ),
        ],
        probes=[
            calls.show_certificate(case.address, case.attempt.tls.sni or case.attempt.host),
            case.ask_server(scheme="http"),
            case.doctor(),
        ],
    )


def rejected(case: Case) -> Finding:
    """`upstream_certificate_rejected`."""
    tls, attempt = case.attempt.tls, case.attempt
    found = next((row for number, row in _REJECTED.items() if (case.detail or "").strip().startswith(number)), None)
    if found is None:
        found = next((row for row in _REJECTED.values() if row[1] in case.hints), ("certificate_rejected", "was not accepted"))
    name, words = found
    called = tls.sni or attempt.host
    evidence = []
    if case.detail:
        evidence.append(f"the check said: {escaped(case.detail)}")
    if tls.subject or tls.issuer:
        evidence.append(f"the certificate is of {quoted(tls.subject)}, issued by {quoted(tls.issuer)}")
    if tls.names:
        evidence.append(f"it is for {', '.join(quoted(one, 80) for one in tls.names[:8])}")
    if tls.not_after:
        evidence.append(
            f"it is valid until {escaped(tls.not_after, 40)}; the request came at {escaped(case.facts.time or '?', 40)}"
        )
    if tls.not_before and name == "certificate_not_yet_valid":
        evidence.append(
            f"it is valid from {escaped(tls.not_before, 40)}; the request came at {escaped(case.facts.time or '?', 40)}"
        )
    if called:
        evidence.append(f"we called {quoted(called)}")
    show = calls.show_certificate(case.address, called)
    confidence = {
        "certificate_expired": 0.9,
        "certificate_not_yet_valid": 0.75,
        "certificate_wrong_name": 0.75 if case.is_named else 0.85,
    }.get(name, 0.85)
    probes = [show, *(["date -u"] if name == "certificate_not_yet_valid" else []), case.doctor()]
    return Finding(
        hop="upstream",
        name=name,
        summary=f"The certificate of {case.server} {words}.",
        confidence=confidence,
        evidence=evidence,
        cure=_certificate_cure(case, name, show),
        probes=probes,
    )


def _certificate_cure(case: Case, name: str, show: str) -> list[str]:
    unchecked = ["until then, and only where nobody can come between, without the check:", case.patch_service(tls_verify=False)]
    if name == "certificate_wrong_name":
        exact = next((one for one in case.attempt.tls.names if "*" not in one), "HOST")
        return [
            "call the server by a name of its certificate:",
            case.patch_service(host=exact),
            "or give it a certificate for this name",
            *unchecked,
        ]
    if name in ("certificate_unknown_ca", "certificate_self_signed"):
        return [
            "let the server send its whole chain; or let us trust the authority (of a self-signed certificate: itself): "
            "`lua_ssl_trusted_certificate = system,/path/ca.pem` in kong.conf, then:",
            "pylae reload",
            *unchecked,
        ]
    if name == "certificate_not_yet_valid":
        return ["set the clocks of the server and of the gateway's machine; else take another certificate", *unchecked]
    return ["renew the certificate at the server; this shows what it has:", show, *unchecked]


def without_certificate(case: Case) -> list[str]:
    """What can be done where a server wants a certificate that we don't show."""
    return [
        "let the server take the gateway without one (by its address, or on another port): this version shows no client "
        "certificate to upstreams, `client_certificate` of a Service has no effect yet",
        "or put a proxy between that has a certificate (nginx with proxy_ssl_certificate, stunnel), and call that:",
        case.patch_target(host="PROXY", port="PORT"),
    ]


def wanted(case: Case) -> Finding:
    """`upstream_wants_certificate`."""
    is_answered = case.attempt.status is not None
    if is_answered and (not case.is_over_tls or case.is_passed_on):
        return _wanted_further_behind(case)
    alert = f"{case.attempt.tls.alert or ''} {case.detail}".lower()
    is_refused = any(
        word in alert for word in ("bad_certificate", "badcertificate", "unknown_ca", "unknownca", "expired", "revoked")
    )
    evidence = [] if is_answered else _said(case)
    if is_answered:
        evidence.append(f"the server answered {case.attempt.status}: no required client certificate was sent")
    return Finding(
        hop="upstream",
        name="client_certificate_refused" if is_refused and "required" not in alert else "client_certificate_wanted",
        summary=f"{case.server} wants a client certificate (mTLS), and got none.",
        confidence=0.9,
        evidence=evidence,
        cure=without_certificate(case),
    )


def _wanted_further_behind(case: Case) -> Finding:
    """Whom we called passes on what its own server said to it."""
    shown = (
        "it keeps the connection, as a server does not that misses a certificate"
        if case.is_over_tls
        else "we spoke plain HTTP to it"
    )
    return Finding(
        hop="second_lb",
        name="client_certificate_wanted_behind",
        summary=f"A server behind {case.server} wants a client certificate (mTLS) of what stands there, and got none.",
        confidence=0.75,
        evidence=[
            f"{case.server} answered {case.attempt.status}: no required client certificate was sent",
            f"{shown}, so that the words were passed on from behind it",
        ],
        cure=[
            "give the load balancer there a certificate to show (nginx: proxy_ssl_certificate and proxy_ssl_certificate_key, "
            "HAProxy: `crt` on the server line)",
        ],
        probes=[case.ask_server(), "the same from the load balancer's machine to its server", case.doctor()],
    )


def garbled(case: Case) -> Finding:
    """What came under TLS was none: nobody reset anything."""
    return Finding(
        hop="upstream",
        name="garbled_tls",
        summary=f"Something that is no TLS came from {case.server} after the handshake, so that the connection was given up.",
        confidence=0.7,
        evidence=[case.connection(), case.traffic(), f"found: {escaped(case.detail or case.attempt.phrase or 'not told')}"],
        cure=[
            "look for two that write into one connection: a server that answers plain text beside its TLS library, a proxy that "
            "patches streams, a worker that was forked with the connection open",
        ],
        probes=[calls.show_certificate(case.address, case.attempt.host), case.ask_server(), case.doctor()],
    )


RULES = {"upstream_tls_failed": failed, "upstream_certificate_rejected": rejected, "upstream_wants_certificate": wanted}
