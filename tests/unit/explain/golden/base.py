# SPDX-License-Identifier: Apache-2.0
"""What did workers see of requests whose cause is known? Records, with the verdict each has to get."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from pylae.explain.examples import attempt, record, service

Claim = Literal["sure", "thin"]


@dataclass(frozen=True)
class Golden:
    """One record and what has to be said of it."""

    fault: str
    finding: str
    hop: str
    claim: Claim
    """`sure`: the confidence is 0.8 or more."""
    record: dict[str, Any] = field(repr=False)
    says: tuple[str, ...] = ()
    """Texts that stand somewhere in summary, evidence or cure."""

    @property
    def name(self) -> str:
        return f"{self.fault}-{self.finding}"


def behind(
    fault: str, status: int, author: str, mark: str | None, finding: str, hop: str, claim: Claim, *says: str, **answer: Any
) -> Golden:
    answered = {"written_by": author, "mark": mark, "server": "nginx", "content_type": "text/html", **answer}
    return Golden(
        fault,
        finding,
        hop,
        claim,
        record(fault, attempt(None, status=status, head_ms=3.0), status=status, answer=answered),
        says,
    )


FIRST_LB = {"client": {"ip": "192.0.2.9", "peer": "10.1.0.2:40000", "is_trusted": True, "forwarded_for_count": 1}}
MORE_THAN_A_SECOND = {"duration_ms": 3402.0}
CERTIFICATE = {
    "sni": "api.test",
    "verified": False,
    "subject": "CN=api.test",
    "issuer": "CN=Some CA",
    "names": ["api.test", "*.api.test"],
    "not_after": "2026-11-20T00:00:00Z",
}


def rejected(detail: str, finding: str, claim: Claim, *says: str, **given: Any) -> Golden:
    one = attempt("upstream_certificate_rejected", sent_bytes=0, detail=detail, tls=CERTIFICATE, **given)
    return Golden(
        "upstream_certificate_rejected",
        finding,
        "upstream",
        claim,
        record("upstream_certificate_rejected", one, detail=detail),
        says,
    )


def tls(detail: str, finding: str, claim: Claim, *says: str, hop: str = "upstream", **given: Any) -> Golden:
    one = attempt("upstream_tls_failed", sent_bytes=0, detail=detail, **given)
    made = record("upstream_tls_failed", one, service=service(protocol="https"))
    return Golden("upstream_tls_failed", finding, hop, claim, made, says)


def banner(hexadecimal: str, finding: str, *says: str, fault: str = "protocol_mismatch") -> Golden:
    first = bytes.fromhex(hexadecimal)
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}" for byte in first)
    one = attempt(fault, received_bytes=len(first), first_bytes=shown, first_bytes_hex=hexadecimal[:32])
    return Golden(fault, finding, "upstream", "sure", record(fault, one), says)


def plugin(fault: str, step: dict[str, Any], finding: str, *says: str, status: int = 500, **given: Any) -> Golden:
    one = {"phase": "access", "took_us": 120.0, "outcome": "failed", "id": "0b7c4f0e-2a9c-4c0b-8a52-0d5ab8d2b1a3", **step}
    made = record(fault, status=status, plugins=[one], plugin=one["name"], answered_by="plugin", **given)
    return Golden(fault, finding, "plugin", "sure", made, says)


def copied(golden: Golden) -> dict[str, Any]:
    """Its record, to be changed."""
    return copy.deepcopy(golden.record)
